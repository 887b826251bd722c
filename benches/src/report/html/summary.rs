//! The summary of a run on the terminal: the rankings of the page, in lines that fit a screen. Both are
//! made of the same results, by the same figures and tests.

use super::group::{Group, Model};
use super::input::Source;
use super::sentences::{self, Level};
use super::text;
use crate::report::columns::wrap;

/// The summary; empty when nothing can be compared.
pub fn render(sources: &[Source]) -> String {
    let model = Model::new(sources);
    let compared: Vec<&Group<'_>> =
        model.groups.iter().filter(|group| group.entries.len() > 1).collect();
    if compared.is_empty() {
        return String::new();
    }
    let banners = sentences::banners(&model, None);
    let withdrawn = banners.iter().any(|banner| banner.level == Level::Red);
    let mut text = "\nsummary: who differs in what, as on the page\n\n".to_owned();
    if withdrawn {
        wrap(&mut text, "", "no verdict: the run was not sound");
        return text;
    }
    let mut even: [Vec<String>; 2] = Default::default();
    for group in compared {
        let ranking = &group.ranking;
        // The dials are printed even if the failures tell no contestants apart.
        let is_whole = ranking.unplaced.is_empty()
            && ranking.aside.is_empty()
            && sentences::dials_beside(group).is_none();
        match ranking.tiers.len() {
            0 if is_whole => {}
            1 if is_whole => {
                let name = format!("{} ({})", group.title(), group.metric.name());
                even[usize::from(group.too_few().is_some())].push(name);
            }
            _ => ranks(&mut text, group),
        }
    }
    for (words, names) in EVEN.iter().zip(&even) {
        if !names.is_empty() {
            wrap(&mut text, "", &format!("{words}: {}", names.join(", ")));
        }
    }
    text
}

/// Of contestants that do not differ, and of those that too few rounds do not tell apart.
const EVEN: [&str; 2] = ["no difference beyond the noise", "not told apart by so few rounds"];

/// One group whose contestants differ, or do not all have a place: a line for each of its tiers, and the
/// contestants without a place.
fn ranks(text: &mut String, group: &Group<'_>) {
    let rounds = match (group.ranking.tiers.as_slice(), group.is_undecided()) {
        ([one], _) if one.members.len() > 1 => {
            format!(", {}", EVEN[usize::from(group.too_few().is_some())])
        }
        (_, true) => ", one round".to_owned(),
        (_, false) => String::new(),
    };
    wrap(text, "", &format!("{}: {}{rounds}", group.title(), group.metric.name()));
    let names = |members: &[usize]| {
        members.iter().map(|member| sentences::named(group, *member)).collect::<Vec<_>>().join(", ")
    };
    for tier in &group.ranking.tiers {
        let range = sentences::range(group, &tier.members);
        wrap(text, &format!("  {range:>16}  "), &names(&tier.members));
    }
    let unplaced = &group.ranking.unplaced;
    if !unplaced.is_empty() {
        let why = text::too_much_scatter(unplaced.len());
        wrap(text, &format!("  {:>16}  ", "not placed"), &format!("{}: {why}", names(unplaced)));
    }
    let aside = &group.ranking.aside;
    if !aside.is_empty() {
        let names: Vec<String> =
            aside.iter().map(|(index, why)| group.aside_words(*index, *why)).collect();
        wrap(text, &format!("  {:>16}  ", "not placed"), &names.join(", "));
    }
    for words in sentences::scale(group).into_iter().chain(sentences::dials_beside(group)) {
        wrap(text, &format!("  {:>16}  ", ""), &words);
    }
}
