//! Whether requests were sent so late that the client is part of the latencies. The warnings of a run and the
//! banners of the page have the same rule.

/// Requests sent later than this, in microseconds, are late, if they are a part of the tail.
const MATERIAL_US: f64 = 1000.0;
/// Of fewer arrivals one in a hundred is an accident.
const MANY_ARRIVALS: f64 = 1000.0;
/// The share of a latency from which on lateness matters.
const SHARE: f64 = 0.1;

/// The half and the 99th percentile of some times, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

/// Whether so many arrivals were that late beside such latencies: of many arrivals one in a hundred by more
/// than a millisecond and a tenth of the tail, or half of them by more than a tenth of the latency of half the
/// replies.
pub(super) fn matters(arrivals: f64, late: Times, latency: Times) -> bool {
    let is_share = |late: Option<f64>, latency: Option<f64>| {
        late.zip(latency).map(|(late, latency)| late > SHARE * latency)
    };
    let often = arrivals >= MANY_ARRIVALS
        && late.p99.is_some_and(|p99| p99 > MATERIAL_US)
        && is_share(late.p99, latency.p99).unwrap_or(true);
    often || is_share(late.p50, latency.p50) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_matters_where_it_is_part_of_the_latency() {
        let of = |p50: f64, p99: f64| Times { p50: Some(p50), p99: Some(p99) };
        let found = |arrivals, late, latency| matters(arrivals, late, latency);
        assert!(!found(1000.0, of(2.0, 900.0), of(3e3, 4e3)), "less than a millisecond");
        assert!(!found(1000.0, of(2.0, 7e3), of(3e3, 259e3)), "a fortieth of the tail");
        assert!(found(1000.0, of(2.0, 35e3), of(3e3, 22e3)));
        assert!(!found(50.0, of(2.0, 35e3), of(3e3, 22e3)), "one of few may be an accident");
        assert!(found(1000.0, of(2.0, 2e3), Times::default()), "without a reply there is no tail");
        assert!(found(1.0, of(500.0, 500.0), of(1e3, 1e3)), "half of a usual latency");
        assert!(!found(1.0, of(50.0, 50.0), of(1e3, 1e3)));
    }
}
