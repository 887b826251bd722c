//! The number of connections that the callers of HTTP/2 share.
//!
//! Over the other protocols the limit has a connection for each caller, which is the best possible number.
//! Over HTTP/2 callers share connections, and throughput depends on their number. So there is a limit for
//! each number, and each row names the limit that it is compared with.

use super::{Play, Scenario, Variant};
use crate::catalog::{Contestant, Kind};
use crate::names::Protocol;

/// The limits beside the contestants in a closed loop.
const LIMITS: [u16; 3] = [1, 2, 4];

/// What tables say beside limits over several connections.
pub const WHAT_IT_DEPENDS_ON: &str = "limit N-connections: the h2 crate driven directly, callers spread evenly over N connections. With one \
     connection the client and the server often wait for each other; a second one keeps both busy. The figures depend on \
     the threads (here one sends and one serves), on the server's time for a request and on the network: measure \
     yours with --target";

impl Variant {
    /// The number of connections that the callers share; `None` where the variant leaves it open.
    pub fn connections(self) -> Option<usize> {
        match self {
            Self::Connections(number) => Some(usize::from(number)),
            _ => None,
        }
    }
}

impl Scenario {
    /// The ways in which this contestant plays it: one that has no name, or several. `connections`
    /// is what it may open, `callers` are those of a closed loop.
    pub fn ways(
        &self,
        contestant: &Contestant,
        protocol: Protocol,
        connections: usize,
        callers: Option<usize>,
    ) -> Vec<Option<Variant>> {
        // A connection without a caller, or above the budget, would not be used.
        let most = connections.min(callers.unwrap_or(1)).max(1);
        let fits = |way: &Variant| way.connections().is_none_or(|number| number <= most);
        if !self.variants.is_empty() {
            return self.variants.iter().copied().filter(fits).map(Some).collect();
        }
        if (contestant.kind, protocol) != (Kind::Limit, Protocol::Http2) {
            return vec![None];
        }
        match self.play {
            // Here connections are scarce.
            Play::Limits => {
                vec![Some(Variant::Connections(u16::try_from(most).unwrap_or(u16::MAX)))]
            }
            _ => LIMITS.map(Variant::Connections).into_iter().filter(fits).map(Some).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{CONNECTIONS, REUSE, STEADY};

    fn ways(
        scenario: Scenario,
        name: &str,
        connections: usize,
        callers: Option<usize>,
    ) -> Vec<usize> {
        let contestant = Contestant::find(name).unwrap();
        let ways = scenario.ways(&contestant, Protocol::Http2, connections, callers);
        ways.into_iter().map(|way| way.and_then(Variant::connections).unwrap_or(0)).collect()
    }

    #[test]
    fn limit_over_http2_names_its_connections() {
        assert_eq!(ways(STEADY, "limit", 50, Some(50)), [1, 2, 4]);
        assert_eq!(ways(STEADY, "default", 50, Some(50)), [0]);
        let limit = Contestant::find("limit").unwrap();
        assert_eq!(STEADY.ways(&limit, Protocol::Http1, 50, Some(50)), [None]);
        let limits = Scenario::parse("limits").unwrap();
        assert_eq!(ways(limits, "limit", 8, Some(50)), [8]);
    }

    #[test]
    fn no_more_connections_than_the_budget_or_the_callers() {
        assert_eq!(ways(STEADY, "limit", 2, Some(50)), [1, 2]);
        assert_eq!(ways(STEADY, "limit", 50, Some(1)), [1]);
        // The callers of an open loop come and go: a rate that depends on the limit means one connection.
        assert_eq!(ways(STEADY, "limit", 50, None), [1]);
        assert_eq!(ways(CONNECTIONS, "default", 10, Some(50)), [1, 2, 5, 10]);
        let net_http = Contestant::find("net-http").unwrap();
        assert_eq!(REUSE.ways(&net_http, Protocol::Http1, 1, Some(1)).len(), 3);
    }
}
