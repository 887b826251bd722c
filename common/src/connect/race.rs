//! Several addresses of one name, raced as RFC 8305 ("Happy Eyeballs") says.
//!
//! An attempt follows 250 ms after the one before, or at once when an attempt has failed. The first
//! connection wins, and the other attempts are dropped. So a family that does not work costs a quarter of a
//! second, not a timeout.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// The pause between two attempts, the "Connection Attempt Delay" of RFC 8305 section 5.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The addresses in the order in which they are tried: the families take turns, beginning with that of
/// the first address.
pub(super) fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let count = addresses.len();
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut order = Vec::with_capacity(count);
    while order.len() < count {
        order.extend(preferred.next());
        order.extend(others.next());
    }
    order
}

/// Dials `addresses` in this order until one answers or `end` has come. `end` is one deadline for all
/// attempts: `None` is never.
///
/// # Errors
/// What each attempt came to. `TimedOut` if `end` came first.
pub(super) async fn race<T, F>(
    addresses: &[SocketAddr],
    end: Option<Instant>,
    dial: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut race = Race { left: addresses, running: Vec::new(), failed: Vec::new() };
    let mut delay = pin!(sleep(ATTEMPT_DELAY));
    let won = poll_fn(|cx| race.poll(cx, delay.as_mut(), &dial));
    let winner = match end {
        Some(end) => timeout_at(end, won).await.unwrap_or(None),
        None => won.await,
    };
    winner.ok_or_else(|| race.into_error())
}

struct Race<'a, F> {
    /// Addresses that were not tried yet.
    left: &'a [SocketAddr],
    running: Vec<(SocketAddr, Pin<Box<F>>)>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl<T, F: Future<Output = io::Result<T>>> Race<'_, F> {
    /// Ready with the first connection, or with `None` when all attempts have failed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut delay: Pin<&mut Sleep>,
        dial: impl Fn(SocketAddr) -> F,
    ) -> Poll<Option<T>> {
        loop {
            let failed_before = self.failed.len();
            if let Some(winner) = self.poll_running(cx) {
                return Poll::Ready(Some(winner));
            }
            let Some((&address, left)) = self.left.split_first() else {
                return if self.running.is_empty() { Poll::Ready(None) } else { Poll::Pending };
            };
            let is_due = self.running.is_empty() || self.failed.len() > failed_before;
            if !is_due {
                ready!(delay.as_mut().poll(cx));
            }
            self.left = left;
            self.running.push((address, Box::pin(dial(address))));
            delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Option<T> {
        let mut index = 0;
        while let Some((address, attempt)) = self.running.get_mut(index) {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(winner)) => return Some(winner),
                Poll::Ready(Err(error)) => {
                    self.failed.push((*address, error));
                    self.running.remove(index);
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }

    /// What the attempts came to. With several addresses, each is named; the kind is that of the last
    /// failure, or `TimedOut` while an attempt was running.
    fn into_error(mut self) -> io::Error {
        let is_alone = self.running.len() + self.failed.len() == 1;
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        self.failed.extend(self.running.into_iter().map(|(address, _)| (address, silent())));
        let Some((_, last)) = self.failed.last() else {
            return io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        };
        if is_alone {
            return self.failed.remove(0).1;
        }
        let kind = last.kind();
        let named = self.failed.iter().map(|(address, error)| format!("{address}: {error}"));
        io::Error::new(kind, named.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 80)).collect()
    }

    /// The behaviour of an address; the number is its delay in milliseconds.
    #[derive(Clone, Copy)]
    enum Does {
        Answers(u64),
        Refuses(u64),
        Nothing,
    }

    /// The address that won, or the error; and how many milliseconds that took.
    async fn run(script: &[(&str, Does)], limit: Option<u64>) -> (io::Result<String>, u128) {
        let texts: Vec<&str> = script.iter().map(|(text, _)| *text).collect();
        let start = Instant::now();
        let end = limit.map(|limit| start + Duration::from_millis(limit));
        let dial = |address: SocketAddr| async move {
            let does = script.iter().find(|(text, _)| text.parse() == Ok(address.ip()));
            match does.expect("one of them").1 {
                Does::Answers(after) => sleep(Duration::from_millis(after)).await,
                Does::Refuses(after) => {
                    sleep(Duration::from_millis(after)).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                Does::Nothing => std::future::pending().await,
            }
            Ok(address.ip().to_string())
        };
        let outcome = race(&addresses(&texts), end, dial).await;
        (outcome, start.elapsed().as_millis())
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let order = |texts: &[&str]| {
            let order = interleaved(addresses(texts));
            order.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            order(&["::1", "::2", "::3", "1.1.1.1", "1.1.1.2"]),
            ["::1", "1.1.1.1", "::2", "1.1.1.2", "::3"]
        );
        assert_eq!(order(&["1.1.1.1", "::1", "1.1.1.2"]), ["1.1.1.1", "::1", "1.1.1.2"]);
        assert!(order(&[]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_costs_a_quarter_of_a_second() {
        let script = [("::1", Does::Nothing), ("1.1.1.1", Does::Answers(20))];
        let (winner, took) = run(&script, Some(1000)).await;
        assert_eq!((winner.expect("it answers").as_str(), took), ("1.1.1.1", 270));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_attempt_at_once() {
        let script = [
            ("::1", Does::Refuses(3)),
            ("1.1.1.1", Does::Nothing),
            ("::2", Does::Refuses(5)),
            ("1.1.1.2", Does::Answers(7)),
        ];
        let (winner, took) = run(&script, None).await;
        assert_eq!((winner.expect("it answers").as_str(), took), ("1.1.1.2", 3 + 250 + 5 + 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win() {
        let script = [("::1", Does::Answers(300)), ("1.1.1.1", Does::Answers(100))];
        let (winner, took) = run(&script, None).await;
        assert_eq!((winner.expect("it answers").as_str(), took), ("::1", 300));
    }

    #[tokio::test(start_paused = true)]
    async fn one_deadline_ends_all_attempts_and_the_error_names_each() {
        let script =
            [("::1", Does::Nothing), ("1.1.1.1", Does::Refuses(0)), ("::2", Does::Nothing)];
        let (error, took) = run(&script, Some(1000)).await;
        let error = error.expect_err("none answers");
        assert_eq!((error.kind(), took), (io::ErrorKind::TimedOut, 1000));
        let text = "1.1.1.1:80: connection refused; [::1]:80: no answer in time; \
                    [::2]:80: no answer in time";
        assert_eq!(error.to_string(), text);

        let (error, took) = run(&[("::1", Does::Nothing)], Some(1000)).await;
        assert_eq!(
            (error.expect_err("silent").to_string().as_str(), took),
            ("no answer in time", 1000)
        );
        let (error, took) = run(&[("::1", Does::Refuses(1))], None).await;
        assert_eq!(
            (error.expect_err("refused").kind(), took),
            (io::ErrorKind::ConnectionRefused, 1)
        );
        let (error, _) = run(&[], None).await;
        assert_eq!(error.expect_err("no address").kind(), io::ErrorKind::NotFound);
    }
}
