//! One contract over the async pool, run for every profile, on a paused clock.

mod events;
mod generations;
mod leaks;
mod limits;
mod outage;
mod panics;
mod polls;
mod ramp;
mod reentry;
mod room;
mod scenarios;
mod words;

use pool_common::{Exclusive, Policy, Shared, profile};

use crate::support::fake;

/// A visible test for each scenario and profile.
macro_rules! contract {
    ($($name:ident: $lending:ident, $policy:expr;)+) => {$(
        mod $name {
            use super::*;

            contract!(@scenarios $lending, $policy;
                sequential_acquires_use_one_connection
                no_more_are_open_than_the_limit
                waiters_are_served_in_the_policys_order
                an_acquire_ends_at_its_deadline
                a_dial_that_hangs_ends_at_its_limit
                the_deadline_covers_the_dial
                the_deadline_covers_the_check
                one_deadline_covers_the_queue_and_the_dial_after_it
                a_failed_dial_is_told_and_leaves_nothing
                waiters_outlive_the_failure_of_others
                a_broken_connection_is_not_lent_again
                one_past_its_time_is_not_lent
                a_lease_that_ends_in_a_panic_is_discarded
                a_lease_can_end_outside_the_runtime
                a_panicking_connect_gives_its_slot_back
                a_connection_that_fails_its_check_is_replaced
                a_session_is_reset_before_the_next_lease
                a_connection_that_cannot_be_reset_is_discarded
                a_connection_that_is_broken_after_its_reset_is_discarded
                a_goodbye_that_hangs_is_cut
                closing_wakes_waiters_and_lets_leases_end
                a_dropped_pool_leaves_nothing_behind
                callers_that_give_up_at_random_leave_nothing
                those_who_wait_are_served_when_the_limit_is_raised
                a_lowered_limit_closes_what_is_too_much_and_then_holds
            );
            contract!(@floors $lending, $policy;
                nobody_waits_while_the_floor_is_remade
                old_ones_serve_while_their_successors_are_refused
                retired_now_means_that_no_old_one_is_lent_again
            );
            contract!(@outages $lending, $policy;
                an_outage_is_survived_without_help
                the_first_caller_after_a_silent_outage_pays_what_the_policy_says
            );
        }
    )+};
    (@floors $lending:ident, $policy:expr; $($scenario:ident)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $scenario() {
            generations::$scenario::<$lending<fake::Connection>>($policy).await;
        }
    )+};
    (@outages $lending:ident, $policy:expr; $($scenario:ident)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $scenario() {
            outage::$scenario::<$lending<fake::Connection>>($policy).await;
        }
    )+};
    (@scenarios $lending:ident, $policy:expr; $($scenario:ident)+) => {$(
        #[tokio::test(start_paused = true)]
        async fn $scenario() {
            scenarios::$scenario::<$lending<fake::Connection>>($policy).await;
        }
    )+};
}

contract! {
    our_default: Exclusive, Policy::default();
    our_default_shared: Shared, Policy::default();
    net_http: Exclusive, profile::net_http().policy;
    net_http_shared: Shared, profile::net_http().policy;
    net_http_h2: Shared, profile::net_http_h2().policy;
    fasthttp: Exclusive, profile::fasthttp().policy;
    redigo: Exclusive, profile::redigo().policy;
    go_redis: Exclusive, profile::go_redis().policy;
    go_redis_shared: Shared, profile::go_redis().policy;
    database_sql: Exclusive, profile::database_sql().policy;
    silenceper: Exclusive, profile::silenceper().policy;
    grpc: Shared, profile::grpc().policy;
    grpc_exclusive: Exclusive, profile::grpc().policy;
    thrift: Exclusive, profile::thrift().policy;
}
