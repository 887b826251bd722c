//! The rivals: clients that a program would otherwise take, one file each.
//!
//! They face the same oracle, the same faults and the same report as the project's own pools. Each
//! file says which settings it uses and why, what the client does not do ([`Facts`]), and what would
//! make it faster. A rival has no deadline beyond the one it ships; the driver drops a call when its
//! caller leaves or the turn ends.

use super::dispatch::Setup;
use super::{Category, Facts};
use crate::names::Protocol;
use crate::run::drive::drive;
use crate::run::load::Load;
use crate::run::turn::Turn;
use crate::scenario::demand::Budget;

mod bb8_redis;
mod deadpool_redis;
mod fred;
mod http_exchange;
mod hyper_util;
mod redis_exchange;
mod redis_rs;
mod redis_rs_manager;
mod reqwest;
mod rustis;
mod tonic;

const ALL: [&Facts; 9] = [
    &hyper_util::FACTS,
    &reqwest::FACTS,
    &tonic::FACTS,
    &redis_rs::FACTS,
    &redis_rs_manager::FACTS,
    &bb8_redis::FACTS,
    &deadpool_redis::FACTS,
    &fred::FACTS,
    &rustis::FACTS,
];

/// The facts about the rival of this name.
pub(super) fn facts(name: &str) -> Option<&'static Facts> {
    ALL.into_iter().find(|facts| facts.name == name)
}

/// Sets the rival of this name up and lets it take its turn.
pub(super) async fn take_turn(
    name: &'static str,
    setup: &Setup,
    load: &Load,
) -> Result<Turn, String> {
    let (target, template) = (&*setup.target, &*setup.template);
    // Its own limits, or as many connections as all the others.
    let connections = (setup.budget == Budget::Same).then_some(setup.connections);
    match (name, target.protocol) {
        ("hyper-util", Protocol::Http1 | Protocol::Http2) => {
            drive(hyper_util::Rival::new(target, template, connections), load).await
        }
        ("reqwest", Protocol::Http1 | Protocol::Http2) => {
            drive(reqwest::Rival::new(target, template, connections)?, load).await
        }
        ("tonic", Protocol::Http2) => drive(tonic::Rival::new(target, template)?, load).await,
        ("redis-rs", Protocol::Resp) => drive(redis_rs::Rival::new(target)?, load).await,
        ("redis-rs-manager", Protocol::Resp) => {
            drive(redis_rs_manager::Rival::new(target)?, load).await
        }
        ("bb8-redis", Protocol::Resp) => {
            drive(bb8_redis::Rival::new(target, connections)?, load).await
        }
        ("deadpool-redis", Protocol::Resp) => {
            drive(deadpool_redis::Rival::new(target, connections)?, load).await
        }
        ("fred", Protocol::Resp) => drive(fred::Rival::new(target, connections)?, load).await,
        ("rustis", Protocol::Resp) => drive(rustis::Rival::new(target), load).await,
        (name, protocol) => Err(format!("{name} does not speak {protocol}")),
    }
}
