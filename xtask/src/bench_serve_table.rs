//! Turns what many rounds measured into medians, one line per server, and medians into differences beside their targets.
//! It does not measure; ratios are printed by [`crate::bench_table`], whose counts it adds to.

use serde_json::Value;

use crate::bench_table::{Verdicts, median};

/// One round of one server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Half of the answers came within so many microseconds.
    pub(crate) p50: f64,
    /// Of a hundred answers ninety-nine did.
    pub(crate) p99: f64,
    /// Answers per second, over all clients.
    pub(crate) per_s: f64,
    /// Microseconds of processor time per answer, of all processes of the server; not known for what runs in no server.
    pub(crate) cpu: Option<f64>,
}

impl Sample {
    /// What the load generator printed, and the seconds of processor time that the server took meanwhile.
    pub(crate) fn of(told: &Value, cpu_seconds: Option<f64>) -> Option<Self> {
        let number = |name: &str| told.get(name)?.as_f64();
        let requests = number("requests").filter(|n| *n > 0.0)?;
        let cpu = cpu_seconds.map(|seconds| seconds * 1e6 / requests);
        Some(Self { p50: number("p50_us")?, p99: number("p99_us")?, per_s: number("per_s")?, cpu })
    }
}

impl Sample {
    fn get(&self, field: Field) -> Option<f64> {
        match field {
            Field::P50 => Some(self.p50),
            Field::P99 => Some(self.p99),
            Field::PerSecond => Some(self.per_s),
            Field::Cpu => self.cpu,
        }
    }
}

/// A column.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    P50,
    P99,
    PerSecond,
    Cpu,
}

/// The rounds of one thing that is asked, by server, in the order of the first round.
#[derive(Default)]
pub(crate) struct Board(Vec<(String, Vec<Sample>)>);

impl Board {
    /// One more round.
    pub(crate) fn add(&mut self, server: &str, sample: Sample) {
        match self.0.iter_mut().find(|(name, _)| name == server) {
            Some((_, rounds)) => rounds.push(sample),
            None => self.0.push((server.to_owned(), vec![sample])),
        }
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, server: &str, field: Field) -> Option<f64> {
        median(&self.values(server, field))
    }

    /// The median over the rounds of what `combine` makes of two servers' values in the same round, and the two medians. What a machine
    /// does for a while meets both.
    pub(crate) fn paired(
        &self,
        (of, to): (&str, &str),
        field: Field,
        combine: fn(f64, f64) -> f64,
    ) -> Option<(f64, f64, f64)> {
        let (of, to) = (self.values(of, field), self.values(to, field));
        let pairs: Vec<f64> = of.iter().zip(&to).map(|(of, to)| combine(*of, *to)).collect();
        Some((median(&pairs)?, median(&of)?, median(&to)?))
    }

    fn values(&self, server: &str, field: Field) -> Vec<f64> {
        let rounds = self.0.iter().find(|(name, _)| name == server);
        rounds.into_iter().flat_map(|(_, rounds)| rounds).filter_map(|sample| sample.get(field)).collect()
    }

    /// One line per server: medians of the rounds.
    pub(crate) fn print(&self, title: &str) {
        println!("\n{title:<54} {:>10} {:>10} {:>10} {:>10}", "p50 us", "p99 us", "per s", "CPU us");
        for (server, _) in &self.0 {
            let show = |field| self.median(server, field).map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
            let [p50, p99, per_s, cpu] = [Field::P50, Field::P99, Field::PerSecond, Field::Cpu].map(show);
            println!("{server:<54} {p50:>10} {p99:>10} {per_s:>10} {cpu:>10}");
        }
    }
}

/// One line: something that may be at most so much.
pub(crate) fn at_most(verdicts: &mut Verdicts, what: &str, of: Option<f64>, unit: &str, most: f64) {
    bounded(verdicts, what, of.map(|of| (of, String::new())), unit, most);
}

/// One line: how much more one server's value is than another's in the same round, and the most that it may be.
pub(crate) fn adds(
    verdicts: &mut Verdicts,
    what: &str,
    board: &Board,
    names: (&str, &str),
    (field, unit): (Field, &str),
    most: f64,
) {
    let paired = board.paired(names, field, |of, than| of - than);
    let told = paired.map(|(value, of, than)| (value, format!("  ({of:.1} {unit} - {than:.1} {unit})")));
    bounded(verdicts, what, told, unit, most);
}

fn bounded(verdicts: &mut Verdicts, what: &str, told: Option<(f64, String)>, unit: &str, most: f64) {
    let Some((value, from)) = told else {
        verdicts.absent += 1;
        println!("{what:<54} NOT MEASURED");
        return;
    };
    let met = value <= most;
    verdicts.missed += usize::from(!met);
    let word = if met { "met" } else { "MISSED" };
    println!("{what:<54} {value:>7.1} {unit}{from}  target at most {most:.1} {unit}: {word}");
}

/// One line: a count or a rate that must be at least so much.
pub(crate) fn at_least(verdicts: &mut Verdicts, what: &str, of: Option<f64>, unit: &str, least: f64) {
    let Some(of) = of else {
        verdicts.absent += 1;
        println!("{what:<54} NOT MEASURED");
        return;
    };
    let met = of >= least;
    verdicts.missed += usize::from(!met);
    let word = if met { "met" } else { "MISSED" };
    println!("{what:<54} {of:>7.1} {unit}  target at least {least:.1} {unit}: {word}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_is_read_whole_or_not_at_all() {
        let told = json!({ "requests": 1000, "p50_us": 40.0, "p99_us": 90.5, "per_s": 20_000.0 });
        let sample = Sample::of(&told, Some(0.02)).unwrap();
        assert_eq!((sample.p50, sample.p99, sample.per_s, sample.cpu), (40.0, 90.5, 20_000.0, Some(20.0)));
        assert_eq!(Sample::of(&told, None).unwrap().cpu, None);
        for name in ["requests", "p50_us", "p99_us", "per_s"] {
            let mut less = told.clone();
            less[name] = json!(0);
            assert_eq!(Sample::of(&less, None).is_none(), name == "requests", "{name}");
            less[name] = json!(null);
            assert!(Sample::of(&less, None).is_none(), "{name}");
        }
    }

    #[test]
    fn medians_are_of_the_rounds_of_one_server() {
        let mut board = Board::default();
        for p50 in [3.0, 1.0, 2.0] {
            board.add("a", Sample { p50, cpu: Some(p50 * 10.0), ..Sample::default() });
            board.add("b", Sample { p50: 9.0, ..Sample::default() });
        }
        assert_eq!((board.median("a", Field::P50), board.median("a", Field::Cpu)), (Some(2.0), Some(20.0)));
        // A machine that is slow for two rounds of three is so for both.
        let mut drifting = Board::default();
        for (of, to) in [(11.0, 10.0), (30.0, 20.0), (36.0, 24.0)] {
            drifting.add("of", Sample { p50: of, ..Sample::default() });
            drifting.add("to", Sample { p50: to, ..Sample::default() });
        }
        assert_eq!(drifting.paired(("of", "to"), Field::P50, |of, to| of - to), Some((10.0, 30.0, 20.0)));
        assert_eq!(drifting.paired(("of", "to"), Field::P50, |of, to| of / to), Some((1.5, 30.0, 20.0)));
        assert_eq!(drifting.paired(("of", "nobody"), Field::P50, |of, to| of / to), None);
        assert_eq!((board.median("b", Field::Cpu), board.median("c", Field::P50)), (None, None));
    }

    #[test]
    fn what_is_missed_and_what_is_absent_is_counted() {
        let mut verdicts = Verdicts::default();
        let mut board = Board::default();
        board.add("a", Sample { p50: 30.0, p99: 31.0, ..Sample::default() });
        board.add("b", Sample { p50: 10.0, p99: 10.0, ..Sample::default() });
        adds(&mut verdicts, "met", &board, ("a", "b"), (Field::P50, "us"), 20.0);
        at_most(&mut verdicts, "met", Some(30.0), "us", 30.0);
        at_least(&mut verdicts, "met", Some(30.0), "per s", 30.0);
        assert_eq!((verdicts.missed, verdicts.absent), (0, 0));
        adds(&mut verdicts, "missed", &board, ("a", "b"), (Field::P99, "us"), 20.0);
        at_most(&mut verdicts, "missed", Some(f64::NAN), "us", 20.0);
        at_least(&mut verdicts, "missed", Some(29.0), "per s", 30.0);
        adds(&mut verdicts, "absent", &board, ("a", "c"), (Field::P50, "us"), 20.0);
        at_least(&mut verdicts, "absent", None, "per s", 30.0);
        assert_eq!((verdicts.missed, verdicts.absent), (3, 2));
    }
}
