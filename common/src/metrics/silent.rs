//! Replaces `meter` without the feature `metrics`: the same functions, all empty.

use std::future::Future;

use crate::manager::Manager;
use crate::pool::Lease;
use crate::state::State;

// With braces, so that `Plan` is constructed in the same way as that of `meter`.
#[derive(Default)]
pub(crate) struct Plan {}

pub(crate) struct Meter;

#[derive(Debug, Default)]
pub(crate) struct Since {}

pub(crate) struct Tally;

pub(crate) struct Report;

impl Meter {
    pub(crate) fn new(_plan: Plan) -> Self {
        Self
    }

    pub(crate) fn tally<K, L, E, W>(&self, _state: &mut State<K, L, E, W>) -> Tally {
        Tally
    }

    pub(crate) fn apply(&self, _report: Report) {}

    #[inline]
    pub(crate) fn hit<M: Manager>(&self, _lease: &mut Lease<M>) {}

    pub(crate) fn now(&self) -> Since {
        Since {}
    }

    #[inline]
    pub(crate) fn waited<T>(&self, _result: &mut T, _since: &Since) {}

    pub(crate) fn time_dial<F: Future>(&self, connect: F) -> F {
        connect
    }

    #[inline]
    pub(crate) fn used(&self, _since: Since) {}
}

impl Tally {
    pub(crate) fn of_no_pool() -> Self {
        Self
    }

    #[inline]
    pub(crate) fn lags<K, L, E, W>(&self, _state: &State<K, L, E, W>) -> bool {
        false
    }

    pub(crate) fn take<K, L, E, W>(&mut self, _state: &mut State<K, L, E, W>) -> Report {
        Report
    }
}
