//! Turns one element of a tensor into JSON or little-endian bytes and back, for each Rust type that a datatype has.
//! It does not round silently into infinity: a number out of range is none.

use half::f16;

/// One element type.
pub trait Element: Copy + Sized {
    /// Its size in bytes.
    const SIZE: usize;
    /// From its little-endian bytes, exactly `SIZE` of them.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// Appends its little-endian bytes.
    fn write(self, out: &mut Vec<u8>);
    /// From a JSON number or boolean, when it is exactly in range.
    fn from_json(number: Scalar) -> Option<Self>;
    /// Appends it as JSON; `None` when JSON cannot hold it.
    fn to_json(self, out: &mut Vec<u8>) -> Option<()>;
    /// Whether it is neither infinite nor NaN.
    fn is_finite_number(self) -> bool;
}

/// A JSON scalar.
#[derive(Clone, Copy)]
pub enum Scalar {
    /// true or false.
    Bool(bool),
    /// A number written without fraction, not negative.
    Unsigned(u64),
    /// A negative number written without fraction.
    Signed(i64),
    /// Any other number.
    Float(f64),
}

fn push_json(value: impl serde::Serialize, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, &value).ok()
}

macro_rules! integers {
    ($($t:ty),+) => {$(
        impl Element for $t {
            const SIZE: usize = size_of::<$t>();
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn from_json(number: Scalar) -> Option<Self> {
                match number {
                    Scalar::Unsigned(n) => n.try_into().ok(),
                    Scalar::Signed(n) => n.try_into().ok(),
                    Scalar::Bool(_) | Scalar::Float(_) => None,
                }
            }
            fn to_json(self, out: &mut Vec<u8>) -> Option<()> {
                push_json(self, out)
            }
            fn is_finite_number(self) -> bool {
                true
            }
        }
    )+};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($t:ty),+) => {$(
        impl Element for $t {
            const SIZE: usize = size_of::<$t>();
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            // The casts round to the tensor's own precision.
            fn from_json(number: Scalar) -> Option<Self> {
                let value = match number {
                    Scalar::Unsigned(n) => n as Self,
                    Scalar::Signed(n) => n as Self,
                    Scalar::Float(n) => n as Self,
                    Scalar::Bool(_) => return None,
                };
                // A number too large for the type is not silently made infinite.
                value.is_finite().then_some(value)
            }
            fn to_json(self, out: &mut Vec<u8>) -> Option<()> {
                if self.is_finite() { push_json(self, out) } else { None }
            }
            fn is_finite_number(self) -> bool {
                self.is_finite()
            }
        }
    )+};
}
floats!(f32, f64);

impl Element for f16 {
    const SIZE: usize = 2;
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.try_into().ok()?))
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn from_json(_: Scalar) -> Option<Self> {
        None
    }
    fn to_json(self, out: &mut Vec<u8>) -> Option<()> {
        self.to_f32().to_json(out)
    }
    fn is_finite_number(self) -> bool {
        self.is_finite()
    }
}

impl Element for bool {
    const SIZE: usize = 1;
    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
    fn from_json(number: Scalar) -> Option<Self> {
        match number {
            Scalar::Bool(value) => Some(value),
            _ => None,
        }
    }
    fn to_json(self, out: &mut Vec<u8>) -> Option<()> {
        push_json(self, out)
    }
    fn is_finite_number(self) -> bool {
        true
    }
}
