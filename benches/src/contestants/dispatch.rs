//! From a contestant's name to the type that carries it out.

use std::sync::Arc;

use pool_common::Policy;

use super::framed::FramedPool;
use super::http1::{Http1Fresh, Http1Pool};
use super::http2::Http2Pool;
use super::http2_raw::{Http2Limit, Http2NoPool};
use super::limit::Limit;
use super::no_pool::NoPool;
use super::raw::Template;
use super::resp::{RespPool, RespSession};
use crate::catalog::Kind;
use crate::names::Protocol;
use crate::run::drive::drive;
use crate::run::load::Load;
use crate::run::turn::Turn;
use crate::scenario::demand::Budget;
use crate::scenario::{Play, Scenario, Variant};
use crate::target::Target;

/// Everything a contestant needs to take its turn.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which contestant.
    pub kind: Kind,
    /// The policy of a profile, knobs set and budget applied.
    pub policy: Option<Policy>,
    /// Where requests go.
    pub target: Arc<Target>,
    /// What the probe learned there.
    pub template: Arc<Template>,
    /// What is played.
    pub scenario: Scenario,
    /// Which way of the scenario `reuse`.
    pub variant: Option<Variant>,
    /// Connections it may open.
    pub connections: usize,
    /// Whether that number holds, or each has its own limits.
    pub budget: Budget,
}

/// Sets the contestant up and lets it take its turn.
///
/// # Errors
/// What went wrong when it could not even start.
pub async fn take_turn(setup: &Setup, load: &Load) -> Result<Turn, String> {
    let target = Arc::clone(&setup.target);
    let template = &setup.template;
    match (setup.kind, setup.target.protocol) {
        (Kind::Limit, Protocol::Http2) => {
            let connections = setup.variant.and_then(Variant::connections).unwrap_or(1);
            drive(Http2Limit::new(target, template, connections), load).await
        }
        (Kind::Limit, _) => drive(Limit::new(target, Arc::clone(template)), load).await,
        (Kind::NoPool, Protocol::Http2) => drive(Http2NoPool::new(target, template), load).await,
        (Kind::NoPool, _) => drive(NoPool::new(target, Arc::clone(template)), load).await,
        #[cfg(feature = "peers")]
        (Kind::Peer(name), _) => super::peers::take_turn(name, setup, load).await,
        #[cfg(not(feature = "peers"))]
        (Kind::Peer(name), _) => Err(format!("{name} is not part of this build")),
        (Kind::Default | Kind::Profile(_), protocol) => {
            let name = match setup.kind {
                Kind::Profile(name) => name,
                _ => "default",
            };
            let policy = setup.policy.clone().ok_or("a profile has a policy")?;
            let listener = load.lives.clone();
            match protocol {
                Protocol::Http1 if setup.variant == Some(Variant::NoPool) => {
                    drive(Http1Fresh::new(&target, template, policy), load).await
                }
                Protocol::Http1 => {
                    drive(Http1Pool::new(&target, template, policy, listener)?, load).await
                }
                Protocol::Framed => drive(FramedPool::new(&target, policy, listener)?, load).await,
                Protocol::Http2 => {
                    drive(Http2Pool::new(&target, template, name, policy, listener)?, load).await
                }
                Protocol::Resp if setup.scenario.play == Play::Session => {
                    drive(RespSession::new(&target, policy)?, load).await
                }
                Protocol::Resp => drive(RespPool::new(&target, policy, listener)?, load).await,
            }
        }
    }
}
