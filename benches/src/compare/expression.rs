//! `--fail-if` and `--require`: a figure, a sign, and a value.

use std::time::Duration;

use super::figure::Figure;
use super::verdict::{Change, Comparison, Verdict};
use crate::report::saved::{Row, Saved};

/// What is compared: a figure of rounds, or the share of requests that failed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Subject {
    Figure(Figure),
    Errors,
}

/// What it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    /// A change relative to BASE: 0.05 is 5 % more.
    Change(f64),
    /// A difference of a count to BASE: 10 is 10 dials more.
    Difference(f64),
    /// A value that is not relative to BASE: microseconds, requests in a second, a share of requests, or a
    /// count.
    Plain(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// An expression as it was written, and what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    text: String,
    subject: Subject,
    sign: Sign,
    value: Value,
}

/// The figures of expressions. The second line is of scenarios that are about them.
pub(super) const KNOWN: &str = "throughput, cpu, p50, p99, p999, errors; \
    failed, failed-while-up, opened, dials, peak-dials, recovery, slow-share";

impl Expression {
    /// Reads an expression of `--fail-if`: a change, as `p99>+5%`, or a value of NEW, as `p99>2ms`.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a figure, a sign and a value, as p99>+5%, cpu>2us or errors>0";
        let place = text.find(['<', '>']).ok_or(expected)?;
        let (name, rest) = text.split_at(place);
        let (sign, rest) = match (rest.strip_prefix("<="), rest.strip_prefix(">=")) {
            (Some(rest), _) => (Sign::AtMost, rest),
            (_, Some(rest)) => (Sign::AtLeast, rest),
            _ if rest.starts_with('<') => (Sign::Less, &rest[1..]),
            _ => (Sign::More, &rest[1..]),
        };
        let name = name.trim();
        let subject = match name {
            "errors" => Subject::Errors,
            _ => Subject::Figure(
                Figure::find(name)
                    .ok_or_else(|| format!("unknown figure '{name}', known: {KNOWN}"))?,
            ),
        };
        let value = value(subject, rest.trim())?;
        Ok(Self { text: text.to_owned(), subject, sign, value })
    }

    /// Reads an expression of `--require`, which has nothing to compare with.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    pub fn parse_requirement(text: &str) -> Result<Self, String> {
        let expression = Self::parse(text)?;
        if matches!(expression.value, Value::Change(_) | Value::Difference(_)) {
            return Err(
                "a requirement has nothing to compare with: expected a value, as p99<2ms (a change, as +5%, is for compare --fail-if)".to_owned(),
            );
        }
        Ok(expression)
    }

    /// The places where a comparison fulfils this, one line each. A change inside the noise does not count.
    pub fn found_in(&self, comparison: &Comparison, new: &[Saved]) -> Vec<String> {
        let bound = match self.value {
            Value::Change(bound) | Value::Difference(bound) => bound,
            Value::Plain(_) => {
                let rows = new.iter().flat_map(|new| &new.results).filter(|row| !row.is_limit());
                return rows.filter_map(|row| self.of_row(row, true)).collect();
            }
        };
        let is_relative = matches!(self.value, Value::Change(_));
        let rows = comparison
            .rows
            .iter()
            .filter(|row| !row.is_limit)
            .map(|row| (row.name.as_str(), &row.changes));
        let together = std::iter::once(("all rows together", &comparison.together));
        rows.chain(together)
            .flat_map(|(name, changes)| changes.iter().map(move |change| (name, change)))
            .filter(|(_, change)| self.subject == Subject::Figure(change.figure))
            .filter(|(_, change)| change.verdict != Verdict::NoDifference)
            .filter_map(|(name, change)| {
                let found = if is_relative { change.relative() } else { change.change };
                self.sign.holds(found, bound).then(|| match is_relative {
                    true => format!("{}: {name}: {:+.1} %", self.text, found * 100.0),
                    false => format!("{}: {name}: {found:+.1}", self.text),
                })
            })
            .collect()
    }

    /// Why this can never be fulfilled: it is about the change of a count, and no row that was compared is of a
    /// scenario that is about that count.
    pub fn unasked(&self, comparison: &Comparison) -> Option<String> {
        let Subject::Figure(figure) = self.subject else { return None };
        let is_plain = matches!(self.value, Value::Plain(_)) || figure.metric().is_none();
        let has_it = |change: &Change| change.figure == figure;
        let is_asked = comparison.rows.iter().any(|row| row.changes.iter().any(has_it));
        (!is_plain && !is_asked).then(|| {
            let name = figure.name();
            format!(
                "--fail-if {}: no row that was compared is of a scenario about {name}",
                self.text
            )
        })
    }

    /// The rows that miss this requirement, one line each; a row without the figure misses it too.
    pub fn missed_in(&self, new: &Saved) -> Vec<String> {
        let rows = new.results.iter().filter(|row| !row.is_limit());
        rows.filter_map(|row| self.of_row(row, false)).collect()
    }

    /// Says it when the expression `holds` for a row, or does not.
    fn of_row(&self, row: &Row, holds: bool) -> Option<String> {
        let Value::Plain(bound) = self.value else {
            return None;
        };
        let value = match self.subject {
            Subject::Figure(figure) => figure.of_row(row),
            Subject::Errors => row.failed().zip(row.requests).and_then(|(failed, answered)| {
                (failed + answered > 0.0).then(|| failed / (failed + answered))
            }),
        };
        let Some(value) = value else {
            return (!holds).then(|| format!("{}: {}: not measured", self.text, row.name()));
        };
        (self.sign.holds(value, bound) == holds).then(|| {
            let words = match self.subject {
                Subject::Errors => format!("{:.3} %", value * 100.0),
                Subject::Figure(figure) if figure.is_time() => format!("{value:.1} us"),
                Subject::Figure(Figure::Count(_)) => format!("{value:.1}"),
                Subject::Figure(_) => format!("{value:.0} requests in a second"),
            };
            format!("{}: {}: {words}", self.text, row.name())
        })
    }
}

impl Sign {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

fn value(subject: Subject, text: &str) -> Result<Value, String> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (subject, text.strip_suffix('%')) {
        (Subject::Errors, share) => {
            let value = match share {
                Some(share) => number(share.trim()).map(|share| share / 100.0),
                // Only zero is the same as a count and as a share.
                None => number(text).filter(|count| *count == 0.0),
            };
            value
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Value::Plain)
                .ok_or_else(|| format!("errors: expected 0 or a share of requests, as 0.1%, not '{text}'"))
        }
        (Subject::Figure(figure), Some(change)) => {
            let signed = change.starts_with(['+', '-']);
            let change = number(change.trim()).filter(|_| signed).ok_or_else(|| {
                format!("{}: expected a change with its sign, as +5% or -5%, not '{text}'", figure.name())
            })?;
            Ok(Value::Change(change / 100.0))
        }
        (Subject::Figure(figure @ Figure::Count(_)), None) => {
            let signed = text.starts_with(['+', '-']);
            let value = number(text).map(|value| match signed {
                true => Value::Difference(value),
                false => Value::Plain(value),
            });
            value.ok_or_else(|| {
                format!("{}: expected a number, as 60, or a change, as +10 or +5%, not '{text}'", figure.name())
            })
        }
        (Subject::Figure(Figure::Throughput), None) => number(text)
            .filter(|rate| *rate >= 0.0)
            .map(Value::Plain)
            .ok_or_else(|| format!("throughput: expected requests in a second, as 5000, or a change, as -5%, not '{text}'")),
        (Subject::Figure(figure), None) => humantime::parse_duration(text)
            .map(|time: Duration| Value::Plain(time.as_secs_f64() * 1e6))
            .map_err(|_| {
                format!("{}: expected a time with its unit, as 2ms, or a change, as +5%, not '{text}'", figure.name())
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        let parsed = Expression::parse("p99>+5%").unwrap();
        assert_eq!(parsed.subject, Subject::Figure(Figure::P99));
        assert_eq!((parsed.sign, parsed.value), (Sign::More, Value::Change(0.05)));
        let parsed = Expression::parse("throughput <= -10%").unwrap();
        assert_eq!((parsed.sign, parsed.value), (Sign::AtMost, Value::Change(-0.1)));
        let parsed = Expression::parse_requirement("p99<2ms").unwrap();
        assert_eq!((parsed.sign, parsed.value), (Sign::Less, Value::Plain(2000.0)));
        assert_eq!(Expression::parse("throughput>=5000").unwrap().value, Value::Plain(5000.0));
        assert_eq!(Expression::parse("errors<0.1%").unwrap().value, Value::Plain(0.001));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        for (text, words) in [
            ("p99", "p99>+5%"),
            ("p98>+5%", "known: throughput, cpu, p50, p99, p999, errors; failed,"),
            ("dials>5%", "with its sign"),
            ("recovery>500ms", "expected a number, as 60"),
            ("p99>5%", "with its sign"),
            ("p99>2", "with its unit"),
            ("p99>", "with its unit"),
            ("throughput<fast", "requests in a second"),
            ("errors>3", "a share of requests"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
        Expression::parse_requirement("dials<+5").unwrap_err();
        let error = Expression::parse_requirement("p99<+5%").unwrap_err();
        assert!(error.contains("--fail-if"), "{error}");
    }

    #[test]
    fn a_requirement_names_the_rows_that_miss_it() {
        let saved = Saved::parse(
            r#"{"schema":1,"results":[
                {"protocol":"resp","scenario":"steady","contestant":"limit","kind":"limit","latency_us":{"p99":9000.0}},
                {"protocol":"resp","scenario":"steady","contestant":"redigo","latency_us":{"p99":1900.0},"requests":99,"errors":1},
                {"protocol":"resp","scenario":"steady","contestant":"slow","latency_us":{"p99":2100.0}},
                {"protocol":"resp","scenario":"steady","contestant":"none"}]}"#,
        )
        .unwrap();
        let missed = Expression::parse_requirement("p99<2ms").unwrap().missed_in(&saved);
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[0].contains("slow: 2100.0 us"), "{missed:?}");
        assert!(missed[1].contains("none: not measured"), "{missed:?}");
        let missed = Expression::parse_requirement("errors<=0.5%").unwrap().missed_in(&saved);
        assert!(missed[0].contains("redigo: 1.000 %"), "{missed:?}");
    }
}
