//! Descriptions of a scenario that fit the demand and the knobs of a run.

use super::demand::Demand;
use super::{SCENARIOS, Scenario};

impl Scenario {
    /// The same scenario under another demand.
    #[must_use]
    pub fn under(self, demand: Demand) -> Self {
        Self { demand, ..self }
    }

    /// The description, with the values of `set` (`knob=value`) in place of the scenario's.
    pub fn about_with(&self, set: &[String]) -> String {
        let mut about = self.about.to_owned();
        for (knob, own) in self.set {
            let mut given = set.iter().filter_map(|set| set.split_once('='));
            // A knob is given once.
            let given = given.find(|(name, _)| name.trim() == *knob);
            let value = given.map_or(*own, |(_, value)| value.trim());
            about = about.replace(&format!("{{{knob}}}"), &value.escape_debug().to_string());
        }
        about
    }

    /// The text below the title of an open loop. `None` if the title is enough: nothing goes wrong, and the
    /// description is of a different demand than the one that is played.
    pub fn note(&self, set: &[String]) -> Option<String> {
        let known = SCENARIOS.into_iter().find(|known| known == self);
        let own_demand = known.is_none_or(|known| known.demand == self.demand);
        let is_about_demand = !self.has_faults() && self.variants.is_empty();
        (own_demand || !is_about_demand).then(|| self.about_with(set))
    }

    /// The contestants that take part, if others that fit do not.
    pub fn takers(&self) -> Option<String> {
        (!self.only.is_empty()).then(|| format!("only {}", self.only.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::STEADY;
    use crate::scenario::demand::Rate;

    fn find(name: &str) -> Scenario {
        Scenario::parse(name).unwrap()
    }

    #[test]
    fn the_description_of_a_demand_is_not_used_for_another_demand() {
        let half = Demand::Paced { rate: Rate::OfLimit(0.5) };
        assert_eq!(STEADY.under(half).note(&[]), None);
        let paced = find("paced");
        assert!(paced.note(&[]).unwrap().contains("60 %"));
        assert_eq!(paced.under(half).note(&[]), None);
        // What goes wrong happens at any rate.
        assert!(find("restart").under(half).note(&[]).unwrap().contains("refused for 1 s"));
    }

    #[test]
    fn the_description_has_the_knob_values_of_the_command_line() {
        let lifetime = find("lifetime");
        assert!(lifetime.about_with(&[]).contains("a lifetime of 1s,"));
        let set = ["max_lifetime=500ms".to_owned()];
        assert!(lifetime.about_with(&set).contains("a lifetime of 500ms,"));
        for scenario in SCENARIOS {
            assert!(!scenario.about_with(&[]).contains('{'), "{}", scenario.about);
        }
    }
}
