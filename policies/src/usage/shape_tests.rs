//! Turns examples and drawn tensors into the promises of output shaping.
//! It does not measure how long shaping takes.

use proptest::prelude::*;

use super::*;

fn rule(shaping: Shaping) -> OutputRule {
    OutputRule { name: "p".to_owned(), shaping }
}

fn top(k: u32) -> OutputRule {
    rule(Shaping::Values { top_k: Some(k), round: None })
}

fn digits(round: u8) -> OutputRule {
    rule(Shaping::Values { top_k: None, round: Some(round) })
}

const CLASS: Shaping = Shaping::ArgmaxOnly;

fn singles(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn read_singles(data: &[u8]) -> Vec<f32> {
    data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn read_doubles(data: &[u8]) -> Vec<f64> {
    data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

fn read_indexes(data: &[u8]) -> Vec<i64> {
    data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

fn run(rule: &OutputRule, values: &[f32], shape: &[usize]) -> Vec<f32> {
    let mut data = singles(values);
    assert_eq!(rule.shape("FP32", shape, &mut data), Ok(("FP32", shape.to_vec())));
    read_singles(&data)
}

#[test]
fn each_row_keeps_its_greatest_values() {
    let values = [0.1, 0.7, 0.2, 0.3, 0.3, 0.3];
    assert_eq!(run(&top(1), &values, &[2, 3]), [0.0, 0.7, 0.0, 0.3, 0.0, 0.0]);
    assert_eq!(run(&top(2), &values, &[2, 3]), [0.0, 0.7, 0.2, 0.3, 0.3, 0.0]);
    assert_eq!(run(&top(2), &values, &[6]), [0.0, 0.7, 0.0, 0.3, 0.0, 0.0]);
    for all in [3, 4, u32::MAX] {
        assert_eq!(run(&top(all), &values, &[2, 3]), values);
    }
    assert_eq!(run(&top(1), &[], &[0, 3]), [] as [f32; 0]);
    assert_eq!(run(&top(1), &[], &[3, 0]), [] as [f32; 0]);
}

#[test]
fn the_greatest_then_rounded() {
    let both = rule(Shaping::Values { top_k: Some(1), round: Some(1) });
    assert_eq!(run(&both, &[0.62, 0.64, 0.01], &[1, 3]), [0.0, 0.6, 0.0]);
}

#[test]
fn nan_is_the_smallest_and_ties_go_to_the_first() {
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let kept = run(&top(1), &[nan, low, nan], &[3]);
    assert_eq!((kept[0].to_bits(), kept[1], kept[2].to_bits()), (0, low, 0));
    assert!(run(&top(2), &[nan, low, nan], &[3])[0].is_nan());
    for (values, greatest) in [
        (&[nan, low, nan][..], 1),
        (&[nan, -nan, nan], 0),
        (&[-0.0, 0.0, -1.0], 0),
        (&[-1.0, 0.0, -0.0], 1),
        (&[1.0, f32::INFINITY, 2.0], 1),
        (&[-2.0, -1.0, -3.0], 1),
        (&[-3.0, 5e-324, 1e-40], 2),
    ] {
        let mut data = singles(values);
        assert_eq!(rule(CLASS).shape("FP32", &[3], &mut data), Ok(("INT64", vec![])));
        assert_eq!(read_indexes(&data), [greatest], "{values:?}");
    }
}

#[test]
fn an_index_stands_in_place_of_each_row() {
    let mut data = singles(&[0.1, 0.9, 0.8, 0.2, 0.5, 0.5]);
    assert_eq!(rule(CLASS).shape("FP32", &[1, 3, 2], &mut data), Ok(("INT64", vec![1, 3])));
    assert_eq!(read_indexes(&data), [1, 0, 0]);
    let mut empty = Vec::new();
    assert_eq!(rule(CLASS).shape("FP32", &[0, 3], &mut empty), Ok(("INT64", vec![0])));
    assert_eq!(rule(CLASS).shape("FP32", &[3, 0], &mut empty), Err(UsageRefusal::OutputForbidden));
}

#[test]
fn every_type_of_number_is_compared_as_such() {
    let class = |dtype: &str, data: &[u8], n: usize| {
        let mut data = data.to_vec();
        assert_eq!(rule(CLASS).shape(dtype, &[n], &mut data), Ok(("INT64", vec![])), "{dtype}");
        read_indexes(&data)[0]
    };
    assert_eq!(class("INT8", &[0xff, 0x01, 0x80], 3), 1);
    assert_eq!(class("UINT8", &[0xff, 0x01, 0x80], 3), 0);
    assert_eq!(class("INT16", &[0xff, 0xff, 0x00, 0x01, 0x00, 0x80], 3), 1);
    assert_eq!(class("UINT16", &[0x00, 0x01, 0xff, 0x00], 2), 0);
    assert_eq!(class("INT32", &[(-5_i32).to_le_bytes(), 4_i32.to_le_bytes()].concat(), 2), 1);
    assert_eq!(class("UINT32", &[u32::MAX.to_le_bytes(), 4_u32.to_le_bytes()].concat(), 2), 0);
    // Neighbours beyond 2^53, which doubles cannot tell apart.
    let large = [1_i64 << 60, (1 << 60) + 1, i64::MIN].map(i64::to_le_bytes).concat();
    assert_eq!(class("INT64", &large, 3), 1);
    let large = [u64::MAX - 1, u64::MAX, 1 << 63].map(u64::to_le_bytes).concat();
    assert_eq!(class("UINT64", &large, 3), 1);
    let halves = [-1.0, 65504.0, 2.0].map(|x| f16::from_f64(x).to_le_bytes()).concat();
    assert_eq!(class("FP16", &halves, 3), 1);
    let brains = [-1.0, 3e38, 2.0].map(|x| bf16::from_f64(x).to_le_bytes()).concat();
    assert_eq!(class("BF16", &brains, 3), 1);
    assert_eq!(class("FP64", &doubles(&[1.0, 1.0 + f64::EPSILON, f64::NAN]), 3), 1);
}

#[test]
fn rounding_takes_the_nearest_and_leaves_no_sign_on_zero() {
    let plain = |round: u8, x: f64| {
        let mut data = doubles(&[x]);
        assert_eq!(digits(round).shape("FP64", &[], &mut data), Ok(("FP64", vec![])));
        read_doubles(&data)[0]
    };
    for (round, x, wanted) in [
        (0, 0.5, 0.0),
        (0, 1.5, 2.0),
        (0, 2.5, 2.0),
        (0, -1.5, -2.0),
        (1, 0.25, 0.2),
        (2, 0.285, 0.28),
        (2, 1.005, 1.0),
        (2, 0.615, 0.61),
        (2, 2.675, 2.67),
        (9, 0.123_456_789_4, 0.123_456_789),
        (3, 1e300, 1e300),
        (9, f64::MAX, f64::MAX),
        (2, f64::INFINITY, f64::INFINITY),
    ] {
        assert_eq!(plain(round, x).to_bits(), wanted.to_bits(), "{x} to {round}");
        assert_eq!(plain(round, -x), -wanted, "-{x} to {round}");
    }
    for nothing in [-0.0, -0.004, 0.004, -f64::MIN_POSITIVE] {
        assert_eq!(plain(2, nothing).to_bits(), 0, "{nothing}");
    }
    let strange = f64::from_bits(0x7ff8_0000_dead_beef);
    assert_eq!(plain(2, strange).to_bits(), strange.to_bits(), "NaN stays");
}

#[test]
fn small_types_are_rounded_in_their_own_bytes() {
    let mut data = [0.123, -2.678, 1000.0].map(|x| f16::from_f64(x).to_le_bytes()).concat();
    assert_eq!(digits(1).shape("FP16", &[3], &mut data), Ok(("FP16", vec![3])));
    assert_eq!(data, [0.1, -2.7, 1000.0].map(|x| f16::from_f64(x).to_le_bytes()).concat());
    let mut data = [0.123, -2.678, 3e38].map(|x| bf16::from_f64(x).to_le_bytes()).concat();
    assert_eq!(digits(1).shape("BF16", &[3], &mut data), Ok(("BF16", vec![3])));
    assert_eq!(data, [0.1, -2.7, 3e38].map(|x| bf16::from_f64(x).to_le_bytes()).concat());
}

#[test]
fn a_rule_that_cannot_be_applied_lets_nothing_out() {
    for (rule, dtype, shape, bytes) in [
        (digits(1), "INT32", &[2][..], 8),
        (digits(1), "FLOAT", &[2], 8),
        (digits(1), "FP32", &[2], 7),
        (digits(1), "FP32", &[usize::MAX, 2], 8),
        (top(1), "BYTES", &[2], 8),
        (top(1), "FP32", &[], 4),
        (rule(CLASS), "BOOL", &[2], 2),
        (rule(CLASS), "FP32", &[2, 3], 20),
    ] {
        let mut data = vec![1; bytes];
        assert_eq!(
            rule.shape(dtype, shape, &mut data),
            Err(UsageRefusal::OutputForbidden),
            "{rule:?} {dtype} {shape:?}"
        );
    }
    // Control: without a rule for its values, strings leave as they are.
    let mut data = vec![1; 9];
    let plain = rule(Shaping::Values { top_k: None, round: None });
    assert_eq!(plain.shape("BYTES", &[2], &mut data), Ok(("BYTES", vec![2])));
    assert_eq!(data, vec![1; 9]);
}

/// Any bits, and values as models give them.
fn single() -> impl Strategy<Value = f32> {
    prop_oneof![any::<u32>().prop_map(f32::from_bits), -2.0_f32..2.0, (-300_i32..300).prop_map(|n| n as f32 / 8.0)]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        -2.0_f64..2.0,
        -1e9_f64..1e9,
        (-1_000_000_i32..1_000_000).prop_map(|n| f64::from(n) / 1000.0 + 0.0005),
        (-9_000_000_i32..9_000_000).prop_map(|n| f64::from(n) / 128.0),
    ]
}

/// NaN below everything, -0 equal to 0: said once more, in another way.
fn above(a: f32, b: f32) -> bool {
    if a.is_nan() { false } else { b.is_nan() || a > b }
}

proptest! {
    #[test]
    fn top_k_is_what_sorting_says(values in prop::collection::vec(single(), 0..40), columns in 1_usize..9, k in 1_u32..10) {
        let rows = values.len() / columns;
        let values = &values[..rows * columns];
        let kept = run(&top(k), values, &[rows, columns]);
        for (row, kept) in values.chunks(columns).zip(kept.chunks(columns)) {
            let mut order: Vec<usize> = (0..columns).collect();
            // Stable: equal values stay in their order.
            order.sort_by(|a, b| match (above(row[*a], row[*b]), above(row[*b], row[*a])) {
                (true, _) => core::cmp::Ordering::Less,
                (_, true) => core::cmp::Ordering::Greater,
                _ => core::cmp::Ordering::Equal,
            });
            for (rank, at) in order.into_iter().enumerate() {
                let wanted = if rank < k as usize { row[at].to_bits() } else { 0 };
                prop_assert_eq!(kept[at].to_bits(), wanted);
            }
        }
    }

    #[test]
    fn argmax_is_the_one_that_top_1_keeps(values in prop::collection::vec(single(), 1..40), columns in 1_usize..9) {
        let rows = values.len() / columns;
        let mut data = singles(&values[..rows * columns]);
        prop_assert_eq!(rule(CLASS).shape("FP32", &[rows, columns], &mut data), Ok(("INT64", vec![rows])));
        for (row, at) in values.chunks_exact(columns).zip(read_indexes(&data)) {
            let at = usize::try_from(at).unwrap();
            for (other, value) in row.iter().enumerate() {
                prop_assert!(!above(*value, row[at]) && (other >= at || above(row[at], *value)));
            }
        }
    }

    #[test]
    fn rounding_is_what_writing_the_digits_down_says(values in prop::collection::vec(double(), 0..40), round in 0_u8..=9) {
        let mut data = doubles(&values);
        digits(round).shape("FP64", &[values.len()], &mut data).unwrap();
        for (x, rounded) in values.iter().zip(read_doubles(&data)) {
            if x.is_nan() {
                prop_assert_eq!(rounded.to_bits(), x.to_bits());
            } else {
                let wanted: f64 = format!("{x:.0$}", usize::from(round)).parse().unwrap();
                prop_assert_eq!(rounded.to_bits(), (wanted + 0.0).to_bits(), "{} to {}", x, round);
            }
        }
    }

    #[test]
    fn rounding_twice_is_rounding_once(bits in prop::collection::vec(any::<u32>(), 0..40), small in prop::collection::vec(single(), 0..20), round in 0_u8..=9) {
        let data: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).chain(singles(&small)).collect();
        for (dtype, size) in [("FP16", 2), ("BF16", 2), ("FP32", 4)] {
            let mut once = data.clone();
            let shape = [data.len() / size];
            digits(round).shape(dtype, &shape, &mut once).unwrap();
            let mut twice = once.clone();
            digits(round).shape(dtype, &shape, &mut twice).unwrap();
            prop_assert_eq!(once, twice, "{}", dtype);
        }
    }

    #[test]
    fn nothing_panics_and_lengths_stay_true(
        data in prop::collection::vec(any::<u8>(), 0..200),
        shape in prop::collection::vec(0_usize..6, 0..4),
        dtype in prop::sample::select(vec!["BOOL", "UINT8", "INT16", "UINT32", "INT64", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES"]),
        top_k in prop::option::of(any::<u32>()),
        round in prop::option::of(0_u8..=9),
        class in any::<bool>(),
    ) {
        let rule = rule(if class { CLASS } else { Shaping::Values { top_k, round } });
        let mut shaped = data.clone();
        if let Some(size) = dtype.parse::<Dtype>().unwrap().size() {
            shaped.resize(size * shape.iter().product::<usize>(), 1);
        }
        if let Ok((seen, dims)) = rule.shape(dtype, &shape, &mut shaped)
            && let Some(size) = seen.parse::<Dtype>().unwrap().size()
        {
            prop_assert_eq!(shaped.len(), size * dims.iter().product::<usize>());
        }
    }
}
