//! Turns seconds of many rounds into medians, and medians into ratios beside their targets.
//! It does not take a time itself and does not know what is compared.

use serde_json::Value;

/// Seconds of every round, by what was done, in the order of the first round.
#[derive(Default)]
pub(crate) struct Times(Vec<(String, Vec<f64>)>);

impl Times {
    /// What a program printed: one object of lists of seconds.
    pub(crate) fn of_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text.lines().last()?).ok()?;
        let row = |(what, seconds): (&String, &Value)| {
            let seconds = seconds.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>()?;
            Some((what.clone(), seconds))
        };
        value.as_object()?.iter().map(row).collect::<Option<Vec<_>>>().map(Self)
    }

    /// One more round of `what`.
    pub(crate) fn add(&mut self, what: &str, seconds: f64) {
        match self.0.iter_mut().find(|(name, _)| name == what) {
            Some((_, all)) => all.push(seconds),
            None => self.0.push((what.to_owned(), vec![seconds])),
        }
    }

    /// The median in seconds.
    pub(crate) fn median(&self, what: &str) -> Option<f64> {
        let (_, all) = self.0.iter().find(|(name, _)| name == what)?;
        median(all)
    }

    /// One line for each: median, least and most seconds, and the rate for so many bytes.
    pub(crate) fn print(&self, title: &str, bytes: u64) {
        println!("\n{title:<54} {:>9} {:>9} {:>9} {:>8}", "median s", "least", "most", "GiB/s");
        for (what, all) in &self.0 {
            let Some(middle) = median(all) else { continue };
            let (least, most) = all.iter().fold((f64::MAX, 0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
            let rate = gib(bytes) / middle;
            println!("{what:<54} {middle:>9.3} {least:>9.3} {most:>9.3} {rate:>8.2}");
        }
    }
}

/// The middle one, the higher of two.
pub(crate) fn median(all: &[f64]) -> Option<f64> {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// Bytes in GiB.
pub(crate) fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

/// What a ratio is to be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Only told.
    None,
}

/// Ratios as they are printed, and how many of them missed their target or lack a side.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// Ratios on the wrong side of their target.
    pub(crate) missed: usize,
    /// Ratios of which one side was not measured.
    pub(crate) absent: usize,
}

impl Verdicts {
    /// One line: the ratio with the two numbers that it comes from, in `unit`, and its target.
    pub(crate) fn ratio(&mut self, what: &str, of: Option<f64>, to: Option<f64>, unit: &str, target: Target) {
        self.paired(what, of.zip(to).map(|(of, to)| (of / to, of, to)), unit, target);
    }

    /// The same for a ratio that is not that of the two numbers beside it, but the median of the rounds' ratios.
    pub(crate) fn paired(&mut self, what: &str, ratio: Option<(f64, f64, f64)>, unit: &str, target: Target) {
        let Some((value, of, to)) = ratio else {
            self.absent += 1;
            println!("{what:<54} NOT MEASURED");
            return;
        };
        let word = |met| if met { "met" } else { "MISSED" };
        let (verdict, met) = match target {
            Target::AtLeast(least) => (format!("target at least {least:.2}: {}", word(value >= least)), value >= least),
            Target::AtMost(most) => (format!("target at most {most:.2}: {}", word(value <= most)), value <= most),
            Target::None => ("no target".to_owned(), true),
        };
        self.missed += usize::from(!met);
        println!("{what:<54} {value:>7.3}  ({of:.3} {unit} / {to:.3} {unit})  {verdict}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_rounds_of_one_thing() {
        let mut times = Times::default();
        for seconds in [3.0, 1.0, 2.0] {
            times.add("a", seconds);
            times.add("b", seconds * 10.0);
        }
        assert_eq!((times.median("a"), times.median("b"), times.median("c")), (Some(2.0), Some(20.0), None));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_last_line_of_a_program_is_read_whole_or_not_at_all() {
        let times = Times::of_json("words\n{\"open\":[2.0,1,3.5],\"seal\":[4]}\n").unwrap();
        assert_eq!((times.median("open"), times.median("seal")), (Some(2.0), Some(4.0)));
        for wrong in ["", "no", "[]", "{\"a\":1}", "{\"a\":[\"1\"]}"] {
            assert!(Times::of_json(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_missed_and_what_is_absent_is_counted() {
        let mut verdicts = Verdicts::default();
        verdicts.ratio("met", Some(3.0), Some(1.0), "s", Target::AtLeast(2.3));
        verdicts.ratio("met", Some(1.0), Some(1.0), "s", Target::AtMost(1.1));
        verdicts.ratio("told", Some(1.0), Some(9.0), "s", Target::None);
        assert_eq!((verdicts.missed, verdicts.absent), (0, 0));
        verdicts.ratio("missed", Some(1.0), Some(1.0), "s", Target::AtLeast(1.7));
        verdicts.ratio("missed", Some(f64::NAN), Some(1.0), "s", Target::AtMost(1.7));
        verdicts.ratio("absent", None, Some(1.0), "s", Target::None);
        assert_eq!((verdicts.missed, verdicts.absent), (2, 1));
    }
}
