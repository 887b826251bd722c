//! Faults that a server plays on command, and their times. The client sends them to the server as JSON
//! over the control connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// New connections are refused: the server closes its listening socket.
    Refuse,
    /// The server delays the first bytes that it writes on a connection by this time, counted from the
    /// accept. If the protocol begins with a greeting (`AUTH` of RESP, SETTINGS of HTTP/2), the dial
    /// takes as long.
    SlowDial {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The server delays each of its writes by this time.
    SlowReplies {
        /// How much, in milliseconds.
        ms: u64,
    },
    /// Every open connection is cut. Happens at one moment and does not last.
    Cut {
        /// How.
        how: Cut,
    },
    /// A connection on which no byte came for this time is cut.
    CutIdle {
        /// How long, in milliseconds.
        after_ms: u64,
        /// How.
        how: Cut,
    },
    /// Every open connection announces its end: `connection: close` with the next reply of HTTP/1,
    /// GOAWAY of HTTP/2, a close after the next reply elsewhere. Happens at one moment and does not last.
    Announce,
    /// Connections stay open, and the server reads and answers nothing any more.
    Silence {
        /// Which ones.
        who: Who,
    },
    /// One connection in `of` answers later by this time.
    StallOne {
        /// The first accepted connection is slow, and so is every connection this many after a slow one.
        of: u32,
        /// How much, in milliseconds.
        ms: u64,
    },
    /// HTTP/2: the server allows this many streams at once on a connection.
    MaxStreams {
        /// How many.
        streams: u32,
    },
    /// Every second connection belongs to a second backend, which answers later by this time.
    SlowBackend {
        /// How much, in milliseconds.
        ms: u64,
    },
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// In order: the client reads the end of the stream.
    Fin,
    /// At once: the client's next read from the socket fails.
    Rst,
}

/// Which connections a silence is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// Connections that were open when it began.
    Old,
    /// Connections accepted since it began.
    New,
    /// All connections.
    All,
}

impl Fault {
    /// Whether it happens at once and needs no end.
    pub fn is_moment(self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Announce)
    }

    /// Why a relay cannot play it, in words that follow "the server must"; `None` if a relay can.
    pub fn asks_server(self) -> Option<&'static str> {
        match self {
            Self::Announce => Some("announce the end of its connections"),
            Self::MaxStreams { .. } => Some("change the number of streams on a connection"),
            Self::Refuse
            | Self::SlowDial { .. }
            | Self::SlowReplies { .. }
            | Self::Cut { .. }
            | Self::CutIdle { .. }
            | Self::Silence { .. }
            | Self::StallOne { .. }
            | Self::SlowBackend { .. } => None,
        }
    }

    /// Reads a fault that lasts, written as its name and its values with colons between them.
    ///
    /// # Errors
    /// The possible faults, if the text does not name one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = || {
            "expected refuse, slow-dial:TIME, slow-replies:TIME, stall-one:N:TIME, cut-idle:TIME:fin, \
             cut-idle:TIME:rst, silence:old, silence:new, silence:all, max-streams:N or slow-backend:TIME"
                .to_owned()
        };
        let ms = |text: &str| {
            let time = humantime::parse_duration(text).map_err(|_| known())?;
            u64::try_from(time.as_millis()).map_err(|_| known())
        };
        let number = |text: &str| text.parse().map_err(|_| known());
        let words: Vec<&str> = text.split(':').collect();
        Ok(match words[..] {
            ["refuse"] => Self::Refuse,
            ["slow-dial", time] => Self::SlowDial { ms: ms(time)? },
            ["slow-replies", time] => Self::SlowReplies { ms: ms(time)? },
            ["stall-one", of, time] => Self::StallOne { of: number(of)?, ms: ms(time)? },
            ["cut-idle", time, "fin"] => Self::CutIdle { after_ms: ms(time)?, how: Cut::Fin },
            ["cut-idle", time, "rst"] => Self::CutIdle { after_ms: ms(time)?, how: Cut::Rst },
            ["silence", "old"] => Self::Silence { who: Who::Old },
            ["silence", "new"] => Self::Silence { who: Who::New },
            ["silence", "all"] => Self::Silence { who: Who::All },
            ["max-streams", streams] => Self::MaxStreams { streams: number(streams)? },
            ["slow-backend", time] => Self::SlowBackend { ms: ms(time)? },
            _ => return Err(known()),
        })
    }

    /// A few words for charts and tables.
    pub fn label(self) -> String {
        let how = |how| match how {
            Cut::Fin => "FIN",
            Cut::Rst => "RST",
        };
        match self {
            Self::Refuse => "connections refused".to_owned(),
            Self::SlowDial { ms } => format!("dials take {ms} ms"),
            Self::SlowReplies { ms } => format!("replies take {ms} ms longer"),
            Self::Cut { how: way } => format!("all connections cut ({})", how(way)),
            Self::CutIdle { after_ms, how: way } => {
                format!("idle connections cut after {after_ms} ms ({})", how(way))
            }
            Self::Announce => "end of all connections announced".to_owned(),
            Self::Silence { who: Who::Old } => "open connections silent".to_owned(),
            Self::Silence { who: Who::New } => "new connections silent".to_owned(),
            Self::Silence { who: Who::All } => "all connections silent".to_owned(),
            Self::StallOne { of, ms } => format!("one connection in {of} takes {ms} ms longer"),
            Self::MaxStreams { streams } => format!("{streams} streams on a connection"),
            Self::SlowBackend { ms } => format!("one of two backends takes {ms} ms longer"),
        }
    }
}

/// One fault on the time line of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it begins, from the start of the measured window.
    pub at: Duration,
    /// How long it lasts; `None` for a fault of one moment, and for one that lasts until the end.
    pub lasts: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

impl Event {
    /// At `at_ms` milliseconds, for `lasts_ms`.
    pub fn during(at_ms: u64, lasts_ms: u64, fault: Fault) -> Self {
        let lasts = Some(Duration::from_millis(lasts_ms));
        Self { at: Duration::from_millis(at_ms), lasts, fault }
    }

    /// Whether it is in force from before the turn to its end, as a slow server is.
    pub fn is_condition(&self) -> bool {
        self.at.is_zero() && self.lasts.is_none() && !self.fault.is_moment()
    }

    /// At `at_ms` milliseconds: a fault of one moment, or one that lasts until the end.
    pub fn at(at_ms: u64, fault: Fault) -> Self {
        Self { at: Duration::from_millis(at_ms), lasts: None, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_the_control_connection() {
        for (fault, json) in [
            (Fault::Refuse, r#"{"fault":"refuse"}"#),
            (Fault::SlowDial { ms: 50 }, r#"{"fault":"slow-dial","ms":50}"#),
            (Fault::Cut { how: Cut::Rst }, r#"{"fault":"cut","how":"rst"}"#),
            (Fault::Silence { who: Who::Old }, r#"{"fault":"silence","who":"old"}"#),
        ] {
            assert_eq!(serde_json::to_string(&fault).unwrap(), json);
            assert_eq!(serde_json::from_str::<Fault>(json).unwrap(), fault);
        }
        assert!(serde_json::from_str::<Fault>(r#"{"fault":"explode"}"#).is_err());
    }

    #[test]
    fn faults_are_written_with_colons() {
        for (text, fault) in [
            ("refuse", Fault::Refuse),
            ("stall-one:10:200ms", Fault::StallOne { of: 10, ms: 200 }),
            ("cut-idle:1s:rst", Fault::CutIdle { after_ms: 1000, how: Cut::Rst }),
            ("silence:new", Fault::Silence { who: Who::New }),
        ] {
            assert_eq!(Fault::parse(text), Ok(fault));
        }
        for text in ["", "refuse:1s", "slow-dial", "slow-dial:soon", "silence:some", "cut"] {
            assert!(Fault::parse(text).unwrap_err().contains("slow-dial:TIME"), "{text}");
        }
    }
}
