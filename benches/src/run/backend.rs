//! The other side of a run: the embedded servers, or a server of the user's with the relay in front of
//! it where a turn needs one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::child::Server;
use super::load::Load;
use super::plan::{Entry, Group, Plan};
use super::turn::Turn;
use super::worker::{Clock, Worker};
use crate::catalog::{CONTESTANTS, Kind};
use crate::contestants::{self, Setup, Template, take_turn};
use crate::error::BenchError;
use crate::names::Protocol;
use crate::nonce;
use crate::place::Placement;
use crate::scenario::demand::{Demand, Rate};
use crate::serve::oracle::Counters;
use crate::target::Target;

/// How long the limit runs when a rate depends on it.
const LIMIT_DURATION: Duration = Duration::from_millis(500);
const LIMIT_WARM_UP: Duration = Duration::from_millis(100);

/// A server of the user's that does not answer may be back within this.
const RETURN_TIMEOUT: Duration = Duration::from_secs(2);
const RETURN_STEP: Duration = Duration::from_millis(100);

/// The other side of a run.
pub(super) struct Backend {
    /// The embedded servers, or the relay; `None` where the user's server is all there is.
    server: Option<Server>,
    /// The user's server.
    user: Option<Target>,
    /// What is known about each way to a server.
    probed: Vec<Probed>,
    /// Requests of the limit in a second, where a rate depends on it.
    limits: HashMap<(Protocol, bool), f64>,
    next_run: u32,
    /// Which of several workers this is, and when its turns begin.
    pub(super) worker: Option<Worker>,
    pub(super) clock: Option<Clock>,
    /// Decides what requests arrive when; each round has others.
    pub(super) seed: u64,
    /// Processors for the schedule thread.
    pub(super) schedule_on: Vec<usize>,
}

/// What is known about a way to the server of a protocol.
struct Probed {
    way: Way,
    target: Arc<Target>,
    template: Arc<Template>,
    /// Why it takes no requests that must not run twice; `None` where it does.
    no_writes: Option<String>,
}

/// A way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    protocol: Protocol,
    /// Whether a dial waits for the server's first word.
    greets: bool,
    /// Whether it leads through the relay.
    relayed: bool,
}

impl Way {
    fn of(group: &Group, entry: &Entry) -> Self {
        Self {
            protocol: group.protocol,
            greets: group.scenario.greets(),
            relayed: group.is_relayed(entry),
        }
    }
}

impl Backend {
    pub(super) async fn open(
        plan: &Plan,
        placement: Placement,
        allowed: &[usize],
    ) -> Result<Self, BenchError> {
        let mut backend = Self {
            server: None,
            user: plan.target.clone(),
            probed: Vec::new(),
            limits: HashMap::new(),
            next_run: nonce::first_run(),
            worker: plan.worker,
            clock: plan.start_at.map(Clock::new).transpose()?,
            seed: plan.seed,
            schedule_on: allowed.to_vec(),
        };
        backend.start(plan, placement.server).await?;
        Ok(backend)
    }

    /// Starts the embedded servers or the relay again, after they were lost.
    ///
    /// # Errors
    /// When they do not come up, or the server behind the relay is gone itself.
    pub(super) async fn restart(
        &mut self,
        plan: &Plan,
        cpu: Option<usize>,
    ) -> Result<(), BenchError> {
        // Ends a process that hangs.
        self.server = None;
        self.probed.clear();
        self.start(plan, cpu).await
    }

    /// Starts what the plan needs, and asks it what a client has to know.
    async fn start(&mut self, plan: &Plan, cpu: Option<usize>) -> Result<(), BenchError> {
        match &plan.target {
            None => self.server = Some(Server::start(cpu, &plan.models).await?),
            Some(target) => {
                if plan.groups.iter().any(Group::needs_relay) {
                    // Before the relay is started: an error is about the server itself.
                    probe(target).await?;
                    self.server = Some(Server::start_relay(cpu, target).await?);
                }
            }
        }
        for group in &plan.groups {
            for entry in &group.entries {
                let way = Way::of(group, entry);
                if !self.probed.iter().any(|known| known.way == way) {
                    let probed = self.probe(plan, way).await?;
                    self.probed.push(probed);
                }
            }
        }
        Ok(())
    }

    /// Whether there is a process of this program's that can be started again.
    pub(super) fn has_process(&self) -> bool {
        self.server.is_some()
    }

    async fn probe(&self, plan: &Plan, way: Way) -> Result<Probed, BenchError> {
        let address = || self.server.as_ref().map(|server| server.address(way.protocol));
        let target = match &plan.target {
            Some(target) if way.relayed => target.through(address().expect("it was started")),
            Some(target) => target.clone(),
            None => Target::embedded(way.protocol, address().expect("it was started")),
        };
        let target = plan.ask.apply(if way.greets { target.greeting() } else { target });
        let template = probe(&target).await?;
        let writes = |group: &Group| group.scenario.writes_percent > 0;
        let no_writes = match way.relayed && plan.groups.iter().any(writes) {
            true => contestants::probe_writes(&target, &template).await.err(),
            false => None,
        };
        let (target, template) = (Arc::new(target), Arc::new(template));
        Ok(Probed { way, target, template, no_writes })
    }

    fn probed(&self, group: &Group, entry: &Entry) -> &Probed {
        let way = Way::of(group, entry);
        let known = self.probed.iter().find(|known| known.way == way);
        known.expect("every way of the plan was probed")
    }

    /// Whether the relay stands in front of the user's server.
    pub(super) fn has_relay(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_relay)
    }

    /// The processor of the embedded servers or of the relay.
    pub(super) fn cpu(&self) -> Option<usize> {
        self.server.as_ref().and_then(Server::cpu)
    }

    /// What people should know about the servers.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for Probed { target, template, no_writes, .. } in &self.probed {
            if let Some(status) = template.status().filter(|status| !status.is_success()) {
                let name = target.describe();
                remarks.push(format!("the {name} answers {status}: that is what is compared"));
            }
            if let Some(why) = no_writes {
                remarks.push(format!(
                    "the {} takes no requests that must not run twice ({why}): all requests are reads",
                    target.describe()
                ));
            }
        }
        remarks.dedup();
        remarks
    }

    /// Why the run cannot go on after an error: the process that ended says more than the connection
    /// that broke.
    pub(super) async fn why(&mut self, error: &BenchError) -> String {
        match &mut self.server {
            Some(server) => server.end().await.unwrap_or_else(|| error.to_string()),
            None => error.to_string(),
        }
    }

    /// Why the user's server is gone, after a turn with failures; `None` where it answers, whatever it
    /// says. It may take a moment to restart.
    pub(super) async fn lost_target(&self) -> Option<String> {
        let target = self.user.as_ref()?;
        let deadline = Instant::now() + RETURN_TIMEOUT;
        loop {
            // The kernel accepts connections for a process that is stopped, so a request is sent, too.
            let answer = async {
                drop(TcpStream::connect(target.address).await?);
                Ok::<_, std::io::Error>(contestants::probe(target).await)
            };
            let error = match timeout(RETURN_TIMEOUT, answer).await {
                Ok(Ok(_said)) => return None,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {RETURN_TIMEOUT:?}"),
            };
            if Instant::now() >= deadline {
                let name = target.describe();
                return Some(format!("the {name} does not answer any more: {error}"));
            }
            tokio::time::sleep(RETURN_STEP).await;
        }
    }

    /// Leaves nothing of a turn on the user's server.
    pub(super) async fn forget_writes(&self, load: &Load, turn: &Turn) -> Result<(), BenchError> {
        match &self.user {
            Some(target) => contestants::forget_writes(target, load, turn).await,
            None => Ok(()),
        }
    }

    /// The process that plays faults and counts in this group, if there is one.
    pub(super) fn side(&mut self, relayed: bool) -> Option<&mut Server> {
        self.server.as_mut().filter(|server| server.is_relay() == relayed)
    }

    /// How many requests of a hundred are not idempotent: as many as the scenario wants, or none where
    /// the server refuses them.
    pub(super) fn writes_percent(&self, group: &Group, entry: &Entry) -> u8 {
        match self.probed(group, entry).no_writes {
            Some(_) => 0,
            None => group.scenario.writes_percent,
        }
    }

    pub(super) fn setup(&self, group: &Group, entry: &Entry) -> Setup {
        let Probed { target, template, .. } = self.probed(group, entry);
        Setup {
            kind: entry.contestant.kind,
            policy: entry.policy.clone(),
            target: Arc::clone(target),
            template: Arc::clone(template),
            scenario: group.scenario,
            variant: entry.variant,
            connections: group.connections,
            budget: group.budget,
        }
    }

    /// The demand of a group, with its rate in requests per second. What depends on the limit lets the
    /// limit run first, once for each way to a server.
    pub(super) async fn demand(
        &mut self,
        group: &Group,
        interrupted: &CancellationToken,
    ) -> Result<Demand, BenchError> {
        let Demand::Paced { rate: Rate::OfLimit(share) } = group.demand else {
            return Ok(group.demand);
        };
        let key = (group.protocol, group.relayed);
        if !self.limits.contains_key(&key) {
            let (run, _) = self.begin(group.protocol, group.relayed, false).await?;
            let callers = group.connections;
            let load = Load {
                run,
                interrupted: interrupted.clone(),
                ..Load::closed(callers, LIMIT_WARM_UP, LIMIT_DURATION)
            };
            let limit = CONTESTANTS.into_iter().find(|one| one.kind == Kind::Limit);
            let entry = Entry::without_policy(limit.expect("the catalog has it"));
            let turn = take_turn(&self.setup(group, &entry), &load).await;
            self.end(group.protocol, group.relayed).await?;
            let turn = turn.map_err(|error| {
                BenchError::Server(format!("the limit, which the rate depends on, broke: {error}"))
            })?;
            if turn.requests == 0 && !interrupted.is_cancelled() {
                let why = turn.first_error.unwrap_or_else(|| "it had no reply".to_owned());
                return Err(BenchError::Server(format!(
                    "the limit, which the rate depends on, measured nothing: {why}"
                )));
            }
            self.limits.insert(key, turn.requests as f64 / turn.seconds.max(f64::EPSILON));
        }
        let rate = (self.limits[&key] * share).max(1.0);
        Ok(Demand::Paced { rate: Rate::PerSecond(rate) })
    }

    /// Tells the server or the relay that a turn begins; its counts then, `None` without a server
    /// that counts.
    pub(super) async fn begin(
        &mut self,
        protocol: Protocol,
        relayed: bool,
        close_after: bool,
    ) -> Result<(u32, Option<Counters>), BenchError> {
        let run = self.next_run;
        self.next_run = nonce::next_run(run);
        let counters = match self.side(relayed) {
            Some(server) => {
                server.counters_at_rest(protocol).await?;
                Some(server.start_run(protocol, run, close_after).await?)
            }
            None => None,
        };
        Ok((run, counters))
    }

    /// What was counted in a turn, once its sockets are closed.
    pub(super) async fn end(
        &mut self,
        protocol: Protocol,
        relayed: bool,
    ) -> Result<Option<Counters>, BenchError> {
        match self.side(relayed) {
            Some(server) => Ok(Some(server.counters_at_rest(protocol).await?)),
            None => Ok(None),
        }
    }
}

async fn probe(target: &Target) -> Result<Template, BenchError> {
    contestants::probe(target).await.map_err(|error| {
        BenchError::usage(format!("cannot use the {}: {error}", target.describe()))
    })
}
