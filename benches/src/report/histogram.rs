//! Histograms of results: base64 of HdrHistogram's V2 format, in nanoseconds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::Deserialize;

/// The histograms of a row as they stand in results.json.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Encoded {
    /// From the intended start to the reply.
    pub latency: Option<String>,
    /// From the real start to the reply.
    pub service: Option<String>,
    /// To get a connection.
    pub acquire: Option<String>,
}

/// The histograms of a row; `None` for what was not measured or cannot be read.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// From the intended start to the reply.
    pub latency: Option<Histogram<u64>>,
    /// From the real start to the reply.
    pub service: Option<Histogram<u64>>,
    /// To get a connection.
    pub acquire: Option<Histogram<u64>>,
}

impl Encoded {
    /// Decodes what can be decoded.
    pub fn decode(&self) -> Decoded {
        let one = |text: &Option<String>| some(text.as_deref()?);
        Decoded {
            latency: one(&self.latency),
            service: one(&self.service),
            acquire: one(&self.acquire),
        }
    }
}

/// A histogram as results files have it.
pub fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("memory takes all bytes");
    STANDARD.encode(bytes)
}

/// Reads a histogram of a results file.
///
/// # Errors
/// What is wrong with it.
pub fn decode(base64: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD
        .decode(base64.trim())
        .map_err(|error| format!("a histogram is no base64: {error}"))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("a histogram cannot be read: {error}"))
}

/// A histogram with something in it.
fn some(base64: &str) -> Option<Histogram<u64>> {
    decode(base64).ok().filter(|histogram| !histogram.is_empty())
}

/// Reads a log, and adds up its intervals by their tag.
///
/// # Errors
/// What is wrong with it.
pub fn read_log(text: &str) -> Result<Decoded, String> {
    let mut decoded = Decoded::default();
    let mut intervals = 0;
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let entry = entry.map_err(|_| "not a histogram log (HdrHistogram V2)".to_owned())?;
        let LogEntry::Interval(interval) = entry else { continue };
        let histogram = some(interval.encoded_histogram())
            .ok_or_else(|| "a histogram in it cannot be decoded".to_owned())?;
        intervals += 1;
        let sum = match interval.tag().map(|tag| tag.as_str()) {
            None | Some("latency") => &mut decoded.latency,
            Some("service") => &mut decoded.service,
            Some("acquire") => &mut decoded.acquire,
            Some(_) => continue,
        };
        match sum {
            None => *sum = Some(histogram),
            Some(sum) => sum.add(histogram).map_err(|error| error.to_string())?,
        }
    }
    if intervals == 0 {
        return Err("a histogram log without a histogram".to_owned());
    }
    Ok(decoded)
}

/// Points of a percentile curve: 1/(1-p), evenly spread over a logarithmic axis, and the value in
/// microseconds. The curve ends at the percentile that is decided by a single value.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    const PER_DECADE: i32 = 12;
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let most = (histogram.len() as f64).max(1.0);
    let mut points = Vec::new();
    for step in 0.. {
        let x = 10_f64.powf(f64::from(step) / f64::from(PER_DECADE));
        if x >= most {
            break;
        }
        points.push((x, micros(histogram.value_at_quantile(1.0 - 1.0 / x))));
    }
    points.push((most, micros(histogram.max())));
    points
}

/// The value at a percentile, in microseconds.
pub fn at(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// The mean, in microseconds.
pub fn mean(histogram: &Histogram<u64>) -> f64 {
    histogram.mean() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_the_same_after_encoding_and_decoding() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|value| histogram.record(value * 1000).unwrap());
        let encoded = Encoded { latency: Some(encode(&histogram)), ..Encoded::default() };
        let decoded = encoded.decode();
        assert_eq!(decoded.latency.as_ref(), Some(&histogram));
        assert!(decoded.service.is_none());
        let curve = curve(&histogram);
        assert_eq!(curve.first().unwrap().0, 1.0);
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{curve:?}");
        assert!((curve.last().unwrap().1 - 1000.0).abs() < 1.0);
    }

    #[test]
    fn text_that_is_no_histogram_is_ignored() {
        for text in ["", "AAAA", "not base64!"] {
            let encoded = Encoded { latency: Some(text.into()), ..Encoded::default() };
            assert!(encoded.decode().latency.is_none());
        }
        assert!(read_log("hello").is_err());
        assert!(read_log("#only a comment\n").is_err());
    }
}
