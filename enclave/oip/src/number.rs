//! Turns the text of one JSON scalar into a number of one Rust type: JSON's grammar exactly, rounded as `str::parse` rounds.
//! It does not know lists, shapes or whitespace.

/// A place in a text. What goes over numbers is inlined, and copies it first, so that it stays in registers.
#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of the text.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; 0, which no JSON has outside of a string, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Goes over this byte, if it stands here. Where that is as likely as not.
    #[inline(always)]
    pub fn skip(&mut self, byte: u8) -> bool {
        let here = self.peek() == byte;
        self.at += usize::from(here);
        here
    }

    /// The same where it is likely: what follows does not wait for the comparison, as long as the processor guesses right.
    #[inline(always)]
    pub fn expect(&mut self, byte: u8) -> bool {
        if self.peek() == byte {
            self.at += 1;
            return true;
        }
        // That it is a branch, and no sum.
        std::hint::cold_path();
        false
    }

    /// Goes over whitespace.
    #[inline(always)]
    pub fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// Whether nothing is left.
    pub const fn is_end(&self) -> bool {
        self.at >= self.text.len()
    }

    #[inline(always)]
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Goes over a word.
    fn word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// Goes over a string, from quote to quote, and returns it with both; what is inside is not looked at, but for escapes.
    pub fn string(&mut self) -> Option<&'a str> {
        let from = self.at;
        if !self.skip(b'"') {
            return None;
        }
        loop {
            let ahead = self.rest().iter().position(|b| matches!(b, b'"' | b'\\'))?;
            self.at += ahead;
            if self.skip(b'"') {
                return self.text.get(from..self.at);
            }
            // A backslash, and whatever it escapes.
            self.at += 2;
        }
    }

    /// Appends decimal digits to a number (modulo 2^64) and says how many there were.
    #[inline(always)]
    fn digits(&mut self, number: &mut u64) -> usize {
        let from = self.at;
        loop {
            let digit = self.peek().wrapping_sub(b'0');
            if digit > 9 {
                return self.at - from;
            }
            *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
    }

    /// The same for what follows a decimal point: sixteen at a time, and without a branch that depends on how many there
    /// are, since that differs from number to number; only that there are few does not, in texts that were rounded.
    #[inline(always)]
    fn many_digits(&mut self, number: &mut u64) -> usize {
        let from = self.at;
        while let Some([low, high]) = self.rest().first_chunk().map(halves) {
            let first = leading_digits(low);
            if first <= FEW {
                append(number, low, first);
                self.at += first;
                return self.at - from;
            }
            let second = if first == 8 { leading_digits(high) } else { 0 };
            append(number, low, first);
            append(number, high, second);
            self.at += first + second;
            if second < 8 {
                return self.at - from;
            }
        }
        self.digits(number);
        self.at - from
    }
}

/// A binary32 written out so that it can be read back has more decimals than these, nine times out of ten.
const FEW: usize = 6;

#[inline(always)]
fn halves(chunk: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*chunk);
    [both as u64, (both >> 64) as u64]
}

/// Appends the first `count` of eight digits to a number (modulo 2^64).
#[inline(always)]
fn append(number: &mut u64, word: u64, count: usize) {
    let scale = POWERS.get(count).copied().unwrap_or(1);
    *number = number.wrapping_mul(scale).wrapping_add(read_digits(word, count));
}

const POWERS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// How many of eight bytes, from the lowest, are digits before the first that is none.
#[inline(always)]
const fn leading_digits(word: u64) -> usize {
    let values = word ^ 0x3030_3030_3030_3030;
    // The high bit of a byte is set where its value is above 9. A carry into the next byte can only come from such a one.
    let others = (values | values.wrapping_add(0x7676_7676_7676_7676)) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() / 8) as usize
}

/// The number that the lowest `count` bytes spell, lowest first.
#[inline(always)]
const fn read_digits(word: u64, count: usize) -> u64 {
    // Zeros move in before the digits; what follows them moves out.
    let Some(v) = (word ^ 0x3030_3030_3030_3030).checked_shl(64 - 8 * count as u32) else { return 0 };
    let v = (v.wrapping_mul(10).wrapping_add(v >> 8)) & 0x00ff_00ff_00ff_00ff;
    let v = (v.wrapping_mul(100).wrapping_add(v >> 16)) & 0x0000_ffff_0000_ffff;
    v.wrapping_mul(10_000).wrapping_add(v >> 32) & 0xffff_ffff
}

/// A JSON number, taken apart.
struct Decimal {
    negative: bool,
    /// All its digits, without the point; meaningless unless `whole`.
    digits: u64,
    /// Whether the digits are few enough to be held: 18, a single zero before the point apart.
    whole: bool,
    /// The power of ten that the digits are multiplied with, held within ±100,000,000.
    exponent: i32,
    /// Where it begins.
    from: usize,
}

/// Takes a number apart: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?` and nothing else. Inlined, since a number
/// that goes over the stack costs as much as reading it.
#[inline(always)]
fn decimal(at: &mut Cursor<'_>) -> Option<Decimal> {
    let from = at.at;
    let negative = at.skip(b'-');
    let mut digits = 0;
    let mut count = if at.expect(b'0') {
        // No number but zero begins with a zero.
        if at.peek().is_ascii_digit() {
            return None;
        }
        0
    } else {
        Some(at.digits(&mut digits)).filter(|count| *count > 0)?
    };
    let mut exponent = 0;
    if at.expect(b'.') {
        let behind = at.many_digits(&mut digits);
        if behind == 0 {
            return None;
        }
        count += behind;
        exponent = -i32::try_from(behind.min(HUGE)).ok()?;
    }
    if matches!(at.peek(), b'e' | b'E') {
        let (power, end) = power(*at)?;
        exponent += power;
        at.at = end;
    }
    Some(Decimal { negative, digits, whole: count <= 18, exponent, from })
}

/// Every power of ten beyond this, and beyond as many digits, is out of any range.
const HUGE: usize = 50_000_000;

/// What stands behind an `e`, cut down to ±`HUGE`, and where it ends.
#[cold]
#[inline(never)]
fn power(mut at: Cursor<'_>) -> Option<(i32, usize)> {
    at.at += 1;
    let below = at.peek() == b'-';
    at.at += usize::from(matches!(at.peek(), b'-' | b'+'));
    while at.peek() == b'0' && at.text.as_bytes().get(at.at + 1).is_some_and(u8::is_ascii_digit) {
        at.at += 1;
    }
    let mut power = 0;
    let power = match at.digits(&mut power) {
        0 => return None,
        1..=8 => i32::try_from(power.min(HUGE as u64)).ok()?,
        _ => i32::try_from(HUGE).ok()?,
    };
    Some((if below { -power } else { power }, at.at))
}

/// 10^0 to 10^22: the powers of ten that a binary64 holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Their reciprocals, each rounded once.
const TENTHS: [f64; 23] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17,
    1e-18, 1e-19, 1e-20, 1e-21, 1e-22,
];

impl Decimal {
    /// Rounded once: both operands are exact, and so few that the one operation does the rounding.
    #[inline(always)]
    fn f64(&self, at: Cursor<'_>) -> Option<f64> {
        let power = TENS.get(self.exponent.unsigned_abs() as usize);
        let Some(power) = power.filter(|_| self.whole && self.digits <= 1 << 53) else {
            return Self::slowly(self.from, at);
        };
        let digits = self.digits as i64 as f64;
        let value = if self.exponent < 0 { digits / power } else { digits * power };
        Some(f64::from_bits(value.to_bits() | u64::from(self.negative) << 63))
    }

    /// Rounded once, from the text: the detour over a binary64 is taken only where it cannot change the result.
    ///
    /// That binary64 has been rounded three times at most (digits, power, product) and so is off by less than four units in its
    /// last place. Between two neighbouring binary32 lies one midpoint. Where the binary64 is further away from one than that,
    /// the number itself is on the same side of it, and both round alike.
    #[inline(always)]
    fn f32(&self, at: Cursor<'_>) -> Option<f32> {
        let powers = if self.exponent < 0 { &TENTHS } else { &TENS };
        let Some(power) = powers.get(self.exponent.unsigned_abs() as usize).filter(|_| self.whole) else {
            return Self::slowly(self.from, at);
        };
        let value = self.digits as i64 as f64 * power;
        let away = (value.to_bits() & 0x1fff_ffff).abs_diff(0x1000_0000);
        let is_safe = (away > 8 && (1e-37..1e38).contains(&value)) || self.digits == 0;
        if !is_safe {
            return Self::slowly(self.from, at);
        }
        Some(f32::from_bits((value as f32).to_bits() | u32::from(self.negative) << 31))
    }

    /// The standard library's reading of the same text, which ends where the cursor stands.
    #[cold]
    #[inline(never)]
    fn slowly<T: std::str::FromStr>(from: usize, at: Cursor<'_>) -> Option<T> {
        at.text.get(from..at.at)?.parse().ok()
    }
}

/// A type that a JSON scalar can be read into.
pub trait Scalar: Copy {
    /// Bytes of one.
    const SIZE: usize;
    /// Reads the scalar that stands at the cursor; `None` when there is none, or it is out of range.
    fn read(at: &mut Cursor<'_>) -> Option<Self>;
    /// Appends its little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
}

macro_rules! scalars {
    ($($t:ty: |$at:ident| $read:expr),+ $(,)?) => {$(
        impl Scalar for $t {
            const SIZE: usize = size_of::<$t>();
            #[inline(always)]
            fn read($at: &mut Cursor<'_>) -> Option<Self> {
                $read
            }
            #[inline(always)]
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )+};
}

scalars!(
    u8: |at| integer(at)?.try_into().ok(),
    u16: |at| integer(at)?.try_into().ok(),
    u32: |at| integer(at)?.try_into().ok(),
    u64: |at| integer(at)?.try_into().ok(),
    i8: |at| integer(at)?.try_into().ok(),
    i16: |at| integer(at)?.try_into().ok(),
    i32: |at| integer(at)?.try_into().ok(),
    i64: |at| integer(at)?.try_into().ok(),
    // A number too large for the type is not silently made infinite.
    f32: |at| decimal(at)?.f32(*at).filter(|x| x.is_finite()),
    f64: |at| decimal(at)?.f64(*at).filter(|x| x.is_finite()),
);

/// A number without point and exponent. `-0` is none: no integer keeps its sign.
#[inline(always)]
fn integer(at: &mut Cursor<'_>) -> Option<i128> {
    let from = at.at;
    let negative = at.skip(b'-');
    let (first, mut digits) = (at.peek(), 0);
    let count = at.digits(&mut digits);
    if count == 0 || (first == b'0' && (count > 1 || negative)) || matches!(at.peek(), b'.' | b'e' | b'E') {
        return None;
    }
    if count > 19 {
        // A UINT64 has up to 20 digits.
        return at.text.get(from..at.at)?.parse().ok();
    }
    let value = i128::from(digits);
    Some(if negative { -value } else { value })
}

impl Scalar for bool {
    const SIZE: usize = 1;

    fn read(at: &mut Cursor<'_>) -> Option<Self> {
        match at.peek() {
            b't' => at.word("true").map(|()| true),
            _ => at.word("false").map(|()| false),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

#[cfg(test)]
mod tests;
