//! Where the time of an acquire went.

use std::ops::AddAssign;
use std::time::Duration;

/// How long each stage of an acquire took; all zero for an idle connection that was lent at once. See
/// [`Acquiring::times`](super::Acquiring::times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcquireTimes {
    /// In the queue, for a connection that came back.
    pub queued: Duration,
    /// For a dial: the caller's own, or one of the pool's that ended during the wait and made the
    /// connection.
    pub dialed: Duration,
    /// In checks before lending, those that did not pass included.
    pub checked: Duration,
}

impl AddAssign for AcquireTimes {
    fn add_assign(&mut self, other: Self) {
        self.queued = self.queued.saturating_add(other.queued);
        self.dialed = self.dialed.saturating_add(other.dialed);
        self.checked = self.checked.saturating_add(other.checked);
    }
}

/// What an acquire measures itself, in nanoseconds, so that its future stays small. A hit measures
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// All of it.
    pub(super) total: u64,
    /// In a dial of the caller's own.
    pub(super) dialed: u64,
    pub(super) checked: u64,
}

impl Spent {
    /// As users see it. `saw_the_dial` says whether the connection was dialed while the acquire waited.
    pub(super) fn times(self, saw_the_dial: bool) -> AcquireTimes {
        let [total, dialed, checked] =
            [self.total, self.dialed, self.checked].map(Duration::from_nanos);
        let waited = total.saturating_sub(dialed).saturating_sub(checked);
        if saw_the_dial {
            AcquireTimes { queued: Duration::ZERO, dialed: dialed + waited, checked }
        } else {
            AcquireTimes { queued: waited, dialed, checked }
        }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// In virtual time.
#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::clock::Clock;
    use crate::policy::{Check, Dial, Policy};
    use crate::{Exclusive, Lease, Manager, Notifier, Pool};

    const DIAL: Duration = Duration::from_secs(2);
    const CHECK: Duration = Duration::from_secs(1);
    const HELD: Duration = Duration::from_secs(5);

    struct Peer;

    impl Manager for Peer {
        type Key = ();
        type Lending = Exclusive<()>;
        type Error = Infallible;

        async fn connect(&self, (): &(), _: Notifier) -> Result<(), Infallible> {
            tokio::time::sleep(DIAL).await;
            Ok(())
        }

        async fn check(&self, _: &mut Exclusive<()>, _: Duration) -> Result<(), Infallible> {
            tokio::time::sleep(CHECK).await;
            Ok(())
        }
    }

    async fn acquired(pool: &Pool<Peer>) -> (Lease<Peer>, AcquireTimes) {
        let mut acquiring = pool.acquire(&());
        let lease = (&mut acquiring).await.expect("the peer accepts");
        let times = acquiring.times(&lease);
        (lease, times)
    }

    fn pool(change: impl FnOnce(&mut Policy)) -> Pool<Peer> {
        let one = Policy { max_open_per_key: Some(1), ..Policy::default() };
        let clock = Clock::tokio();
        let builder = Pool::builder(Peer).policy(one).change_policy(change).clock(clock);
        builder.build().expect("a valid policy")
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_dial_is_dialed_and_a_wait_for_a_return_is_queued() {
        for dial in [Dial::Caller, Dial::Detached] {
            let pool = pool(|policy| policy.dial = dial);
            let (lease, times) = acquired(&pool).await;
            assert_eq!(times, AcquireTimes { dialed: DIAL, ..AcquireTimes::default() }, "{dial:?}");
            let back = async {
                tokio::time::sleep(HELD).await;
                drop(lease);
            };
            let ((lease, times), ()) = tokio::join!(acquired(&pool), back);
            assert_eq!(times, AcquireTimes { queued: HELD, ..AcquireTimes::default() }, "{dial:?}");
            drop(lease);
            let (_lease, times) = acquired(&pool).await;
            assert_eq!(times, AcquireTimes::default(), "{dial:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn checks_are_counted_apart() {
        let pool = pool(|policy| policy.check = Check::Always);
        drop(acquired(&pool).await);
        tokio::time::sleep(HELD).await;
        let (_lease, times) = acquired(&pool).await;
        assert_eq!(times, AcquireTimes { checked: CHECK, ..AcquireTimes::default() });
    }
}
