//! What results say about another client besides its figures.

use crate::policies::Safety;

/// What results say about a rival besides its figures.
#[derive(Debug)]
pub struct Facts {
    /// The name on the command line and in results.
    pub name: &'static str,
    /// Whether its settings were changed for this comparison.
    pub category: Category,
    /// Omissions, each in words that follow "does not".
    pub does_not: &'static [&'static str],
    /// It has a single connection: the budget does not apply to it.
    pub single: bool,
    /// Its safety measures.
    pub safety: Safety,
}

/// Whether settings of a rival were changed for this comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The defaults of the client. A budget may still limit its connections.
    AsShipped,
    /// Changed for speed.
    Tuned,
}

impl Category {
    /// The words of results.
    pub fn words(self) -> &'static str {
        match self {
            Self::AsShipped => "as shipped",
            Self::Tuned => "tuned",
        }
    }
}

impl Facts {
    /// The facts about the rival of this name; `None` when it is not part of this build.
    pub fn of(name: &str) -> Option<&'static Self> {
        #[cfg(feature = "peers")]
        return super::peers::facts(name);
        #[cfg(not(feature = "peers"))]
        {
            let _ = name;
            None
        }
    }
}
