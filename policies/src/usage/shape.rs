//! Turns the bytes of an output into what its rule lets out: the greatest values, rounded values, or an index.
//! It does not decide which rule holds. What is computed here leaves; what the model computed does not.

use core::cmp::Reverse;

use half::{bf16, f16};

use super::{Dtype, OutputRule, Shaping, UsageRefusal};

/// 10 to the power of each allowed number of digits; each is exact in a double.
const POWERS: [f64; super::outputs::MAX_DIGITS as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// A double of this size has no digits that rounding could remove.
const WHOLE: f64 = 9_007_199_254_740_992.0;

impl OutputRule {
    /// Shapes one output, whose `data` are its elements in rows, little-endian, and says what type and shape it has then.
    /// A row is one run along the last dimension. NaN is smaller than everything else, and of equal values the first
    /// counts as the greatest. What is rounded to 0 is +0, so that not even a sign is left of it. NaN and infinity stay.
    ///
    /// # Errors
    /// `OUTPUT_FORBIDDEN` when the rule cannot be applied: another type or number of dimensions than at loading, rows
    /// without a value where the greatest is wanted, or bytes of another length than type and shape say.
    pub fn shape(
        &self,
        dtype: &str,
        shape: &[usize],
        data: &mut Vec<u8>,
    ) -> Result<(&'static str, Vec<usize>), UsageRefusal> {
        let dtype: Dtype = dtype.parse().map_err(|_| UsageRefusal::OutputForbidden)?;
        self.possible(dtype, shape.len()).map_err(|_| UsageRefusal::OutputForbidden)?;
        if let Some(size) = dtype.size() {
            let bytes = shape.iter().try_fold(size, |bytes, dim| bytes.checked_mul(*dim));
            if bytes != Some(data.len()) {
                return Err(UsageRefusal::OutputForbidden);
            }
            let columns = shape.last().copied().unwrap_or(1);
            match self.shaping {
                Shaping::Values { top_k, round } => {
                    if let Some(k) = top_k {
                        keep_greatest(dtype, size, columns, k, data);
                    }
                    if let Some(scale) = round.and_then(|digits| POWERS.get(usize::from(digits))) {
                        round_all(dtype, *scale, data);
                    }
                }
                Shaping::ArgmaxOnly if columns == 0 => return Err(UsageRefusal::OutputForbidden),
                Shaping::ArgmaxOnly => *data = indexes(dtype, size, columns, data),
            }
        }
        let (seen, rank) = self.seen(dtype, shape.len());
        Ok((seen.as_str(), shape.iter().copied().take(rank).collect()))
    }
}

/// Sets everything but the `k` greatest of each row to 0.
fn keep_greatest(dtype: Dtype, size: usize, columns: usize, k: u32, data: &mut [u8]) {
    let k = usize::try_from(k).unwrap_or(usize::MAX);
    if k >= columns {
        return;
    }
    let mut keys = Vec::with_capacity(columns);
    let mut order: Vec<(Reverse<u64>, usize)> = Vec::with_capacity(columns);
    for row in data.chunks_exact_mut(columns * size) {
        keys_of(dtype, row, &mut keys);
        order.clear();
        order.extend(keys.iter().enumerate().map(|(at, key)| (Reverse(*key), at)));
        order.select_nth_unstable(k);
        for (_, at) in order.iter().skip(k) {
            if let Some(element) = row.get_mut(at * size..(at + 1) * size) {
                element.fill(0);
            }
        }
    }
}

/// The index of the greatest value of each row, as INT64.
fn indexes(dtype: Dtype, size: usize, columns: usize, data: &[u8]) -> Vec<u8> {
    let mut keys = Vec::with_capacity(columns);
    let mut out = Vec::with_capacity(data.len() / (columns * size) * 8);
    for row in data.chunks_exact(columns * size) {
        keys_of(dtype, row, &mut keys);
        let greatest = keys.iter().enumerate().min_by_key(|(at, key)| (Reverse(**key), *at));
        let at = greatest.map_or(0, |(at, _)| at as i64);
        out.extend_from_slice(&at.to_le_bytes());
    }
    out
}

/// For each element a number in the same order: NaN first, and -0 equal to 0.
fn keys_of(dtype: Dtype, row: &[u8], keys: &mut Vec<u64>) {
    fn each<const N: usize>(row: &[u8], keys: &mut Vec<u64>, key: impl Fn([u8; N]) -> u64) {
        keys.extend(row.as_chunks::<N>().0.iter().map(|bytes| key(*bytes)));
    }
    keys.clear();
    match dtype {
        Dtype::Fp16 => each(row, keys, |b| float(f16::from_le_bytes(b).to_f64())),
        Dtype::Bf16 => each(row, keys, |b| float(bf16::from_le_bytes(b).to_f64())),
        Dtype::Fp32 => each(row, keys, |b| float(f32::from_le_bytes(b).into())),
        Dtype::Fp64 => each(row, keys, |b| float(f64::from_le_bytes(b))),
        Dtype::Int8 => each(row, keys, |b| signed(i8::from_le_bytes(b).into())),
        Dtype::Int16 => each(row, keys, |b| signed(i16::from_le_bytes(b).into())),
        Dtype::Int32 => each(row, keys, |b| signed(i32::from_le_bytes(b).into())),
        Dtype::Int64 => each(row, keys, |b| signed(i64::from_le_bytes(b))),
        Dtype::Uint16 => each(row, keys, |b| u16::from_le_bytes(b).into()),
        Dtype::Uint32 => each(row, keys, |b| u32::from_le_bytes(b).into()),
        Dtype::Uint64 => each(row, keys, u64::from_le_bytes),
        Dtype::Uint8 | Dtype::Bool | Dtype::Bytes => each(row, keys, |b| u8::from_le_bytes(b).into()),
    }
}

fn signed(x: i64) -> u64 {
    x.cast_unsigned() ^ (1 << 63)
}

fn float(x: f64) -> u64 {
    let bits = x.to_bits();
    match () {
        () if x.is_nan() => 0,
        () if x.is_sign_negative() && x != 0.0 => !bits,
        () => bits | (1 << 63),
    }
}

fn round_all(dtype: Dtype, scale: f64, data: &mut [u8]) {
    fn each<const N: usize>(data: &mut [u8], round: impl Fn([u8; N]) -> Option<[u8; N]>) {
        for element in data.as_chunks_mut::<N>().0 {
            if let Some(rounded) = round(*element) {
                *element = rounded;
            }
        }
    }
    match dtype {
        Dtype::Fp16 => {
            each(data, |b| rounded(f16::from_le_bytes(b).to_f64(), scale).map(|x| f16::from_f64(x).to_le_bytes()))
        }
        Dtype::Bf16 => {
            each(data, |b| rounded(bf16::from_le_bytes(b).to_f64(), scale).map(|x| bf16::from_f64(x).to_le_bytes()))
        }
        Dtype::Fp32 => each(data, |b| rounded(f32::from_le_bytes(b).into(), scale).map(|x| (x as f32).to_le_bytes())),
        Dtype::Fp64 => each(data, |b| rounded(f64::from_le_bytes(b), scale).map(f64::to_le_bytes)),
        // No digits behind the point; `possible` refuses them anyway.
        _ => {}
    }
}

/// The nearest multiple of 1 / `scale`, of two equally near ones the even one. Nothing where there is nothing to round: NaN, infinity,
/// and values so large that their neighbours lie further apart.
fn rounded(x: f64, scale: f64) -> Option<f64> {
    let product = x * scale;
    if product.is_nan() || product.abs() >= WHOLE {
        return None;
    }
    let mut whole = product.round_ties_even();
    let beside = product - whole;
    if beside.abs() == 0.5 {
        // The product was rounded itself: only its error says on which side of the middle the value lies.
        let error = x.mul_add(scale, -product);
        if error != 0.0 && (error > 0.0) == (beside > 0.0) {
            whole += beside * 2.0;
        }
    }
    // -0 + 0 is 0.
    Some(whole / scale + 0.0)
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
