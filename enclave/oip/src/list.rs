//! Turns a JSON list, flat or nested as its shape, straight into the little-endian bytes of a tensor.
//! It does not know the model; the caller compares datatype and shape with it first.

use crate::dtype::Dtype;
use crate::error::OipError;
use crate::number::{Cursor, Scalar};
use crate::tensor::{MAX_COUNT, count};

const MISFIT: OipError =
    OipError::InputData("it is no flat or nested list of the shape's size and the datatype's range");
const BINARY_ONLY: OipError = OipError::InputData("this datatype is sent as binary data only");

/// Reads a list. Nothing is allocated for more elements than the text has room for, and no list is followed deeper than the shape.
///
/// Numbers are read by JSON's grammar alone and rounded once to the datatype, FP32 directly from the text; integers have neither
/// point nor exponent. A number out of range is refused. BYTES are JSON strings, kept as UTF-8.
///
/// # Errors
/// `INPUT_DATA`; `INPUT_SHAPE` for a shape that no tensor has.
pub fn read(text: &str, dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>, OipError> {
    let total = count(shape, MAX_COUNT).ok_or(OipError::InputShape)?;
    // Every element takes at least a byte, and a comma or bracket.
    if total > text.len() / 2 {
        return Err(MISFIT);
    }
    match dtype {
        Dtype::Bool => list::<bool>(text, shape, total),
        Dtype::U8 => list::<u8>(text, shape, total),
        Dtype::U16 => list::<u16>(text, shape, total),
        Dtype::U32 => list::<u32>(text, shape, total),
        Dtype::U64 => list::<u64>(text, shape, total),
        Dtype::I8 => list::<i8>(text, shape, total),
        Dtype::I16 => list::<i16>(text, shape, total),
        Dtype::I32 => list::<i32>(text, shape, total),
        Dtype::I64 => list::<i64>(text, shape, total),
        Dtype::F32 => list::<f32>(text, shape, total),
        Dtype::F64 => list::<f64>(text, shape, total),
        Dtype::F16 | Dtype::Bf16 => Err(BINARY_ONLY),
        Dtype::Bytes => whole(text, shape, total, text.len(), string),
    }
}

fn list<T: Scalar>(text: &str, shape: &[usize], total: usize) -> Result<Vec<u8>, OipError> {
    whole(
        text,
        shape,
        total,
        total.saturating_mul(T::SIZE),
        #[inline(always)]
        |at, out| {
            T::read(at)?.write(out);
            Some(())
        },
    )
}

fn whole(
    text: &str,
    shape: &[usize],
    total: usize,
    capacity: usize,
    mut element: impl FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> Option<()>,
) -> Result<Vec<u8>, OipError> {
    let mut at = Cursor::new(text);
    let mut out = Vec::with_capacity(capacity);
    at.space();
    if !at.skip(b'[') {
        return Err(MISFIT);
    }
    at.space();
    let read = match (at.peek(), shape) {
        // Two or more dimensions: the first list holds lists.
        (b'[', [first, rest @ ..]) if !rest.is_empty() => lists(&mut at, *first, rest, &mut out, &mut element),
        _ => elements(&mut at, total, &mut out, &mut element),
    };
    at.space();
    read.filter(|()| at.is_end()).map(|()| out).ok_or(MISFIT)
}

/// What is behind a bracket: so many lists of the next dimensions, and the closing bracket.
fn lists<E>(at: &mut Cursor<'_>, many: usize, shape: &[usize], out: &mut Vec<u8>, element: &mut E) -> Option<()>
where
    E: FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> Option<()>,
{
    for index in 0..many {
        comma(at, index)?;
        at.space();
        at.skip(b'[').then_some(())?;
        match shape {
            [last] => elements(at, *last, out, element)?,
            [first, rest @ ..] => lists(at, *first, rest, out, element)?,
            [] => return None,
        }
    }
    close(at)
}

/// What is behind a bracket: so many elements, and the closing bracket.
#[inline]
fn elements<E>(at: &mut Cursor<'_>, many: usize, out: &mut Vec<u8>, element: &mut E) -> Option<()>
where
    E: FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> Option<()>,
{
    let mut here = *at;
    for index in 0..many {
        comma(&mut here, index)?;
        here.space();
        element(&mut here, out)?;
    }
    *at = here;
    close(at)
}

#[inline(always)]
fn comma(at: &mut Cursor<'_>, index: usize) -> Option<()> {
    if index == 0 || at.expect(b',') {
        return Some(());
    }
    at.space();
    at.skip(b',').then_some(())
}

fn close(at: &mut Cursor<'_>) -> Option<()> {
    at.space();
    at.skip(b']').then_some(())
}

/// A string, behind its length.
fn string(at: &mut Cursor<'_>, out: &mut Vec<u8>) -> Option<()> {
    let quoted = at.string()?;
    let inside = quoted.get(1..quoted.len().checked_sub(1)?)?;
    let plain = !inside.bytes().any(|b| b == b'\\' || b < 0x20);
    let unescaped: String;
    let value = if plain {
        inside
    } else {
        // Escapes and control characters are judged by the one that judges the envelope.
        unescaped = serde_json::from_str(quoted).ok()?;
        &unescaped
    };
    out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(dtype: Dtype, dims: &[usize], text: &str) -> Result<Vec<u8>, &'static str> {
        read(text, dtype, dims).map_err(|e| e.code())
    }

    fn f32s(list: &[f32]) -> Result<Vec<u8>, &'static str> {
        Ok(list.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    #[test]
    fn flat_and_nested_lists_are_the_same_tensor() {
        let expected = f32s(&[1.0, 2.5, -3.0, 4.0]);
        assert_eq!(json(Dtype::F32, &[2, 2], "[1, 2.5, -3, 4]"), expected);
        assert_eq!(json(Dtype::F32, &[2, 2], "[[1, 2.5], [-3, 4]]"), expected);
        assert_eq!(json(Dtype::F32, &[2, 2], " \r\n\t[ [1 ,2.5 ]\n,[\t-3,4 ] ] "), expected);
        assert_eq!(json(Dtype::F32, &[2, 1, 2], "[[[1, 2.5]], [[-3, 4]]]"), expected);
        assert_eq!(json(Dtype::F32, &[4], "[1,2.5,-3,4]"), expected);
        assert_eq!(json(Dtype::I64, &[0, 3], "[]"), Ok(vec![]));
        assert_eq!(json(Dtype::I64, &[0], "[ ]"), Ok(vec![]));
        assert_eq!(json(Dtype::I64, &[2, 0], "[[], []]"), Ok(vec![]));
        assert_eq!(json(Dtype::I64, &[2, 0], "[]"), Ok(vec![]));
        assert_eq!(json(Dtype::Bool, &[], "[true]"), Ok(vec![1]));
        assert_eq!(json(Dtype::Bool, &[1, 2], "[[true,false]]"), Ok(vec![1, 0]));
        assert_eq!(json(Dtype::U16, &[2], "[1,65535]"), Ok(vec![1, 0, 255, 255]));
    }

    #[test]
    fn lists_of_another_shape_or_range_are_refused() {
        for (dtype, dims, text) in [
            (Dtype::F32, &[2, 2][..], "[1, 2, 3]"),
            (Dtype::F32, &[2, 2], "[1, 2, 3, 4, 5]"),
            (Dtype::F32, &[2, 2], "[[1, 2, 3], [4]]"),
            (Dtype::F32, &[2, 2], "[[1, 2], 3, 4]"),
            (Dtype::F32, &[2, 2], "[1, 2, [3, 4]]"),
            (Dtype::F32, &[2, 2], "[[1, 2], [3, 4], []]"),
            (Dtype::F32, &[2, 2], "[[1, 2], [3, 4]], 5"),
            (Dtype::F32, &[2, 2], "[[1, 2], [3, 4]"),
            (Dtype::F32, &[2, 2], "[[1, 2], [3, 4],]"),
            (Dtype::F32, &[2, 2], "[[1, 2,], [3, 4]]"),
            (Dtype::F32, &[2, 2], "[[1, 2] [3, 4]]"),
            (Dtype::F32, &[2, 2], "[,1, 2, 3, 4]"),
            (Dtype::F32, &[2, 2], "[1,, 2, 3, 4]"),
            (Dtype::F32, &[2, 2], "[1, 2, 3, 4,]"),
            (Dtype::F32, &[2, 2], "[1 2 3 4]  "),
            (Dtype::F32, &[2, 2], "[1, 2, 3, 4]]"),
            (Dtype::F32, &[2, 2], "[1, 2, 3, 4] x"),
            (Dtype::F32, &[2, 0], "[[], [1]]"),
            (Dtype::F32, &[2, 0], "[[], [], []]"),
            (Dtype::F32, &[0, 2], "[[]]"),
            (Dtype::F32, &[2, 2, 2], "[[1,2,3,4],[5,6,7,8]]"),
            (Dtype::F32, &[4], "[[1, 2, 3, 4]]"),
            (Dtype::F32, &[], "[[1]]"),
            (Dtype::F32, &[], "[]"),
            (Dtype::F32, &[1], "[1e39]"),
            (Dtype::F64, &[1], "[1e999]"),
            (Dtype::F32, &[1], "[null]"),
            (Dtype::F32, &[1], "[\"1\"]"),
            (Dtype::F32, &[1], "[true]"),
            (Dtype::F32, &[1], "[NaN]"),
            (Dtype::F32, &[1], "[-Infinity]"),
            (Dtype::F32, &[1], "[01]"),
            (Dtype::F32, &[1], "[\u{a0}1]"),
            (Dtype::F32, &[1], "{}"),
            (Dtype::F32, &[1], "1"),
            (Dtype::F32, &[1], "[1}"),
            (Dtype::I8, &[1], "[128]"),
            (Dtype::U8, &[1], "[-1]"),
            (Dtype::I32, &[1], "[1.0]"),
            (Dtype::F16, &[1], "[1]"),
            (Dtype::Bf16, &[1], "[1]"),
            (Dtype::Bool, &[1], "[1]"),
            (Dtype::Bytes, &[1], "[1]"),
        ] {
            assert_eq!(json(dtype, dims, text), Err("INPUT_DATA"), "{dtype:?} {dims:?} {text}");
        }
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(json(Dtype::F32, &[1; 16], &deep), Err("INPUT_DATA"));
    }

    #[test]
    fn absurd_shapes_take_no_memory() {
        for shape in [&[usize::MAX][..], &[usize::MAX, 2], &[1 << 63], &[0, usize::MAX], &[1; 17]] {
            assert_eq!(json(Dtype::F64, shape, "[1]"), Err("INPUT_SHAPE"), "{shape:?}");
        }
        for shape in [&[1 << 40][..], &[1 << 20, 1 << 20], &[5]] {
            assert_eq!(json(Dtype::F64, shape, "[1]"), Err("INPUT_DATA"), "{shape:?}");
        }
    }

    #[test]
    fn strings_are_kept_behind_their_length() {
        let text = r#"["", "a", "\u00e9\n\"", "日本", "\ud83d\ude00"]"#;
        let mut expected = Vec::new();
        for word in ["", "a", "é\n\"", "日本", "😀"] {
            expected.extend_from_slice(&u32::try_from(word.len()).unwrap().to_le_bytes());
            expected.extend_from_slice(word.as_bytes());
        }
        assert_eq!(json(Dtype::Bytes, &[5], text), Ok(expected));
        assert_eq!(json(Dtype::Bytes, &[2, 1], r#"[["]"],["["]]"#), Ok(vec![1, 0, 0, 0, b']', 1, 0, 0, 0, b'[']));
        for text in
            [r#"["\ud800"]"#, "[\"\u{1}\"]", r#"["\x"]"#, r#"["a]"#, r#"['a']"#, "[\"\n\"]", r#"["a""b"]"#, "[null]"]
        {
            assert_eq!(json(Dtype::Bytes, &[1], text), Err("INPUT_DATA"), "{text}");
        }
    }

    /// What a text means, read by serde_json.
    fn judged(text: &str, shape: &[usize]) -> Option<Vec<u8>> {
        fn walk(value: &serde_json::Value, shape: &[usize], out: &mut Vec<f64>) -> Option<()> {
            match (value.as_array(), shape) {
                (Some(list), [here, rest @ ..]) if list.len() == *here => {
                    list.iter().try_for_each(|v| walk(v, rest, out))
                }
                (None, []) => value.as_f64().map(|x| out.push(x)),
                _ => None,
            }
        }
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let mut out = Vec::new();
        if walk(&value, shape, &mut out).is_none() {
            out.clear();
            walk(&value, &[shape.iter().product()], &mut out)?;
        }
        Some(out.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_text_means_what_serde_json_says(text in "[\\[\\], 0-9.e-]{0,24}", shape in proptest::collection::vec(0_usize..4, 1..4)) {
            prop_assert_eq!(read(&text, Dtype::F64, &shape).ok(), judged(&text, &shape));
        }

        #[test]
        fn nested_lists_and_small_changes_mean_what_serde_json_says(
            rows in proptest::collection::vec(proptest::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 3), 1..4),
            change in proptest::option::of((any::<usize>(), proptest::sample::select(b"[],0-. e1".to_vec()))),
        ) {
            let shape = [rows.len(), 3];
            let mut text = serde_json::to_string(&rows).unwrap().into_bytes();
            if let Some((at, byte)) = change {
                let at = at % text.len();
                text[at] = byte;
            }
            let text = String::from_utf8(text).unwrap();
            let read = read(&text, Dtype::F64, &shape).ok();
            prop_assert!(change.is_some() || read.is_some());
            prop_assert_eq!(read, judged(&text, &shape));
        }

        #[test]
        fn any_strings_come_back(words in proptest::collection::vec(any::<String>(), 0..6)) {
            let bytes = read(&serde_json::to_string(&words).unwrap(), Dtype::Bytes, &[words.len()]).unwrap();
            let list: Option<Vec<&[u8]>> = crate::binary::strings(&bytes).collect();
            prop_assert_eq!(list.unwrap(), words.iter().map(String::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn any_text_at_all_is_read_or_refused(text in any::<String>(), shape in proptest::collection::vec(0_usize..4, 0..3)) {
            for dtype in Dtype::ALL {
                let _ = read(&text, dtype, &shape);
            }
        }
    }
}
