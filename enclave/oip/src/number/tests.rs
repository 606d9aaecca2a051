//! Numbers beside the standard library's and serde_json's reading of the same text, and the grammar's edges.

use proptest::prelude::*;

use super::*;

fn read<T: Scalar>(text: &str) -> Option<T> {
    let mut at = Cursor::new(text);
    T::read(&mut at).filter(|_| at.is_end())
}

fn same(text: &str) {
    let expected = text.parse::<f32>().ok().filter(|x| x.is_finite()).map(f32::to_bits);
    assert_eq!(read::<f32>(text).map(f32::to_bits), expected, "f32 {text}");
    let expected = text.parse::<f64>().ok().filter(|x| x.is_finite()).map(f64::to_bits);
    assert_eq!(read::<f64>(text).map(f64::to_bits), expected, "f64 {text}");
    let judged = serde_json::from_str::<f64>(text).ok().map(f64::to_bits);
    assert_eq!(read::<f64>(text).map(f64::to_bits), judged, "serde_json {text}");
}

#[test]
fn numbers_round_as_the_standard_library_rounds_them() {
    for text in [
        "0",
        "-0",
        "0.0",
        "-0.0",
        "1",
        "-1",
        "10",
        "0.1",
        "0.10000000149011612",
        "3.4028234663852886e38",
        "1e-45",
        "7e-46",
        "0.7e-45",
        "1.1754943508222875e-38",
        "1.17549429e-38",
        "16777217",
        "16777217.0",
        "16777219",
        "33554434.999999999999",
        "9007199254740993",
        "9007199254740992.5",
        "18446744073709551615",
        "9999999999999999999",
        "99999999999999999999",
        "1e22",
        "1e23",
        "123456789e22",
        "1e37",
        "1e38",
        "3.4028235677973366e38",
        "3.4028235677973365e38",
        "1e39",
        "1e308",
        "1.7976931348623159e308",
        "1e309",
        "1e999",
        "1e99999999999999999999",
        "0e99999999999999999999",
        "0e-9999999999",
        "1e-999",
        "1e-99999999999999999999",
        "1e+5",
        "1E5",
        "1e05",
        "1e00000000000000000000005",
        "0.000000000000000000000000001",
        "2.2250738585072011e-308",
        "4.9e-324",
        "2e-324",
        "0.1234567890123456789012345678901234567890",
        "12345678",
        "1.23456789",
        "1.000000059604644775390625",
        "1.0000000596046447753906250000000000000001",
        "1.00000005960464477539062499999999999",
        "8388608.5",
        "8388609.5",
        "1.5e-45",
        "0.00000000000000000000000000000000000000000000140129846432481707",
    ] {
        same(text);
    }
}

#[test]
fn nothing_but_json_numbers_are_read() {
    for text in [
        "",
        "-",
        "+1",
        "01",
        "-01",
        "00",
        "1.",
        ".5",
        "-.5",
        "1.e5",
        "1e",
        "1e+",
        "1e-",
        "1e5.5",
        "1.5.5",
        "0x10",
        "1_000",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "true",
        "null",
        "\"1\"",
        "[1]",
        " 1",
        "1 ",
        "1,",
        "--1",
        "-+1",
        "1f",
        "٣",
    ] {
        assert_eq!(read::<f32>(text), None, "{text}");
        assert_eq!(read::<f64>(text), None, "{text}");
        assert_eq!(read::<i64>(text), None, "{text}");
    }
    for text in ["1e39", "-1e39", "3.5e38", "1e999"] {
        assert_eq!(read::<f32>(text), None, "{text}");
    }
}

#[test]
fn integers_have_their_range_and_no_fraction() {
    assert_eq!((read::<i8>("-128"), read::<i8>("127"), read::<u8>("255")), (Some(-128), Some(127), Some(255)));
    assert_eq!((read::<i8>("-129"), read::<i8>("128"), read::<u8>("256")), (None, None, None));
    assert_eq!((read::<u64>("18446744073709551615"), read::<u64>("18446744073709551616")), (Some(u64::MAX), None));
    assert_eq!((read::<i64>("-9223372036854775808"), read::<i64>("-9223372036854775809")), (Some(i64::MIN), None));
    assert_eq!(read::<i64>("9223372036854775808"), None);
    for text in ["1.0", "1e2", "1E0", "-0", "-1", "1e-1", "340282366920938463463374607431768211456", "01"] {
        assert_eq!(read::<u32>(text), None, "{text}");
    }
    assert_eq!((read::<bool>("true"), read::<bool>("false")), (Some(true), Some(false)));
    for text in ["1", "0", "True", "tru", "truee", "null", ""] {
        assert_eq!(read::<bool>(text), None, "{text}");
    }
}

#[test]
fn eight_bytes_are_read_as_the_digits_they_begin_with() {
    for text in [
        "12345678",
        "1234567,",
        "1:345678",
        "/2345678",
        "99999999",
        "00000000",
        "0,999999",
        "\u{e9}345678",
        "12\u{ff}5678",
    ] {
        let word = u64::from_le_bytes(text.as_bytes()[..8].try_into().unwrap());
        let count = text.bytes().take_while(u8::is_ascii_digit).count();
        assert_eq!(leading_digits(word), count, "{text}");
        assert_eq!(read_digits(word, count), text[..count].parse().unwrap_or(0), "{text}");
    }
}

#[test]
fn strings_end_at_their_quote() {
    for (text, whole) in [(r#""a\"b" x"#, r#""a\"b""#), (r#""\\" x"#, r#""\\""#), (r#""""#, r#""""#)] {
        assert_eq!(Cursor::new(text).string(), Some(whole));
    }
    for text in ["", "a", "\"", "\"a", "\"\\", "\"\\\"", "\"\\é"] {
        assert_eq!(Cursor::new(text).string(), None, "{text}");
    }
}

/// The decimal text, exactly, of a point between two neighbouring binary32, and texts beside it.
fn midpoint(bits: u32) -> Option<String> {
    let (low, high) = (f32::from_bits(bits), f32::from_bits(bits + 1));
    high.is_finite().then(|| format!("{:.160}", (f64::from(low) + f64::from(high)) / 2.0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_float_comes_back_from_its_shortest_text(bits in any::<u32>(), wide in any::<u64>()) {
        let (x, y) = (f32::from_bits(bits), f64::from_bits(wide));
        if x.is_finite() {
            prop_assert_eq!(read::<f32>(&serde_json::to_string(&x).unwrap()).map(f32::to_bits), Some(bits));
            same(&serde_json::to_string(&f64::from(x)).unwrap());
            same(&format!("{x:e}"));
            same(&format!("{x}"));
        }
        if y.is_finite() {
            prop_assert_eq!(read::<f64>(&serde_json::to_string(&y).unwrap()).map(f64::to_bits), Some(wide));
            same(&format!("{y}"));
        }
    }

    #[test]
    fn texts_at_and_beside_a_midpoint_round_to_the_right_side(bits in 0x0080_0000_u32..0x7f7f_ffff, cut in 1_usize..40, digit in 0..10) {
        let Some(exact) = midpoint(bits) else { return Ok(()) };
        same(&exact);
        let short = &exact[..exact.len().min(exact.find('.').unwrap() + 1 + cut)];
        same(short);
        same(&format!("{short}{digit}"));
        same(&format!("{exact}{digit}"));
    }

    #[test]
    fn short_decimals_near_a_midpoint_round_to_the_right_side(low in 16_777_216_u64..1 << 40, shift in 0_u32..12, tail in "[0-9]{0,4}") {
        // Odd halves of units of a binary32, with few digits.
        let value = ((low >> 16 | 1 << 24) * 2 + 1) as f64 / 2.0 / f64::from(1_u32 << shift);
        let point = if value.fract() == 0.0 { "." } else { "" };
        same(format!("{value}{point}{tail}").trim_end_matches('.'));
    }

    #[test]
    fn any_json_number_is_read_as_the_others_read_it(text in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?") {
        same(&text);
    }

    #[test]
    fn common_decimals_are_read_as_the_others_read_them(text in "-?[0-9]\\.[0-9]{1,18}(e-?[0-9]{1,2})?") {
        same(&text);
    }

    #[test]
    fn any_text_is_read_when_json_reads_it(text in "[-+0-9.eE]{0,12}") {
        let judged = serde_json::from_str::<f64>(&text).ok();
        prop_assert_eq!(read::<f64>(&text).map(f64::to_bits), judged.map(f64::to_bits));
        prop_assert_eq!(read::<i64>(&text), serde_json::from_str(&text).ok());
        prop_assert_eq!(read::<u8>(&text), serde_json::from_str(&text).ok());
    }
}
