//! Rows of one or several files, put together by what may be compared.

use super::input::Source;
use super::ranking::Ranking;
use super::sentences;
use super::stats::Metric;
use super::text;
use crate::compare::comparable;
use crate::report::histogram::Decoded;
use crate::report::saved::{Noise, Row};

/// Everything the page shows.
#[derive(Debug)]
pub struct Model<'a> {
    /// The files.
    pub sources: &'a [Source],
    /// What is compared, in the order of the files.
    pub groups: Vec<Group<'a>>,
    /// The names of contestants, in the order of their first row; a place in it is a colour.
    pub contestants: Vec<Contestant>,
}

/// A name with a colour.
#[derive(Debug, PartialEq)]
pub struct Contestant {
    pub name: String,
    /// The class of its colour.
    pub colour: String,
    /// The shape of its points.
    pub shape: usize,
}

/// One scenario on one protocol.
#[derive(Debug)]
pub struct Group<'a> {
    pub protocol: String,
    pub scenario: String,
    pub budget: Option<String>,
    pub entries: Vec<Entry<'a>>,
    /// The metric that ranks its contestants: the one that its scenario names. It does not depend on what
    /// the run measured, so that two runs of a scenario can be compared.
    pub metric: Metric,
    /// Its contestants by that metric; empty where files are compared.
    pub ranking: Ranking,
    pub noise: Noise,
    /// The request of the user, in words; empty for the built-in request, and if files differ.
    pub request: Vec<String>,
}

/// One row of a group.
#[derive(Debug)]
pub struct Entry<'a> {
    pub row: &'a Row,
    /// Its place in [`Model::contestants`].
    pub contestant: usize,
    /// Its place in [`Model::sources`].
    pub file: usize,
    /// Its name, with the file's where there are several.
    pub label: String,
    /// The same in two lines, where there is little room: the contestant's name, and the rest.
    pub lines: (String, String),
    /// The classes that give its marks a colour and let them be hidden.
    pub classes: String,
    pub shape: usize,
    pub histograms: Decoded,
    /// Why it is not the same comparison as the same row in the first file.
    pub unlike: Vec<String>,
}

impl Entry<'_> {
    /// Whether another entry is the same contestant in the same way, maybe of another file.
    pub fn is_like(&self, other: &Entry<'_>) -> bool {
        self.contestant == other.contestant && self.row.variant == other.row.variant
    }
}

const COLOURS: usize = 10;

impl<'a> Model<'a> {
    /// Sorts the rows of all files into groups.
    pub fn new(sources: &'a [Source]) -> Self {
        let mut model = Self { sources, groups: Vec::new(), contestants: Vec::new() };
        for (file, source) in sources.iter().enumerate() {
            for row in &source.results.results {
                model.add(file, row);
            }
        }
        for group in &mut model.groups {
            if sources.len() > 1 {
                // The same contestant of several files stands together.
                group
                    .entries
                    .sort_by_key(|entry| (entry.contestant, entry.row.variant.clone(), entry.file));
            }
            group.request = request(sources, group);
            group.mark_unlike(sources);
            let noises = group.entries.iter().filter_map(|entry| {
                let of_run = || sources[entry.file].results.noise();
                entry.row.noise.or_else(of_run)
            });
            group.noise = noises.reduce(Noise::widest).unwrap_or_default();
        }
        let metrics: Vec<Metric> =
            model.groups.iter().map(|group| model.metric_of(group)).collect();
        for (group, metric) in model.groups.iter_mut().zip(metrics) {
            group.metric = metric;
            if !group.compares_files() {
                group.ranking = group.rank(metric);
            }
        }
        // Faults come first, then the groups whose contestants differ most.
        let mut groups: Vec<(f64, Group<'_>)> = std::mem::take(&mut model.groups)
            .into_iter()
            .map(|group| (sentences::verdict(&group).1, group))
            .collect();
        groups.sort_by(|(left, one), (right, other)| {
            one.load_kind().cmp(&other.load_kind()).then(right.total_cmp(left))
        });
        model.groups = groups.into_iter().map(|(_, group)| group).collect();
        model
    }

    /// The figure that ranks a group: the same on all protocols, so that the rankings of a scenario can be
    /// read side by side.
    fn metric_of(&self, group: &Group<'_>) -> Metric {
        let same =
            |other: &&Group<'_>| other.scenario == group.scenario && other.budget == group.budget;
        let named = self.groups.iter().filter(same).find_map(Group::figure);
        named.unwrap_or_else(|| metric(&group.entries))
    }

    fn add(&mut self, file: usize, row: &'a Row) {
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        let (protocol, scenario) = (word(&row.protocol), word(&row.scenario));
        let name = row.contestant.clone().unwrap_or_else(|| "unnamed".to_owned());
        let contestant = self.contestant(&name, row.kind.as_deref());
        let Contestant { colour, shape, .. } = &self.contestants[contestant];
        let same = |group: &&mut Group<'_>| {
            group.protocol == protocol && group.scenario == scenario && group.budget == row.budget
        };
        let group = self.groups.iter_mut().find(same);
        // The ways of one contestant share its colour; dashes and points tell them apart.
        let before = group.as_ref().map_or(0, |group| {
            let own = |entry: &&Entry<'_>| entry.contestant == contestant && entry.file == file;
            group.entries.iter().filter(own).count()
        });
        let way = if row.variant.is_some() { before } else { 0 };
        let shape = if way == 0 { *shape } else { (shape + way) % 6 };
        let mut parts = vec![name];
        parts.extend(row.variant.clone());
        let mut label = parts.join(" ");
        let dashes = match self.sources {
            [_] => way % 5,
            several => {
                label = format!("{label} · {}", several[file].name);
                parts.push(several[file].name.clone());
                file % 4
            }
        };
        let rest = parts.split_off(1).join(" · ");
        let entry = Entry {
            row,
            contestant,
            file,
            label,
            lines: (parts.swap_remove(0), rest),
            classes: format!("ser c{contestant} f{file} {colour} d{dashes}"),
            shape,
            histograms: if row.read.latency.is_some() || row.read.acquire.is_some() {
                row.read.clone()
            } else {
                row.histograms.decode()
            },
            unlike: Vec::new(),
        };
        match group {
            Some(group) => group.entries.push(entry),
            None => self.groups.push(Group {
                protocol,
                scenario,
                budget: row.budget.clone(),
                entries: vec![entry],
                metric: Metric::Throughput,
                ranking: Ranking::default(),
                noise: Noise::default(),
                request: Vec::new(),
            }),
        }
    }

    fn contestant(&mut self, name: &str, kind: Option<&str>) -> usize {
        if let Some(known) = self.contestants.iter().position(|known| known.name == name) {
            return known;
        }
        let coloured =
            self.contestants.iter().filter(|known| known.colour.starts_with('k')).count();
        // The limit and no-pool are the scale, and grey.
        let (colour, shape) = match (kind, name) {
            (Some("limit"), "no-pool") => ("g1".to_owned(), 7),
            (Some("limit"), _) => ("g0".to_owned(), 6),
            _ if name == "no-pool" => ("g1".to_owned(), 7),
            _ => (format!("k{}", coloured % COLOURS), coloured % 6),
        };
        self.contestants.push(Contestant { name: name.to_owned(), colour, shape });
        self.contestants.len() - 1
    }
}

/// The request of the user, in words, if all files of a group agree on it.
fn request(sources: &[Source], group: &Group<'_>) -> Vec<String> {
    let of_file = |file: usize| sources[file].results.settings().request.unwrap_or_default();
    let mut files: Vec<usize> = group.entries.iter().map(|entry| entry.file).collect();
    files.dedup();
    let mut requests = files.into_iter().map(of_file);
    let first = requests.next().unwrap_or_default();
    if requests.all(|other| other == first) { first.words() } else { Vec::new() }
}

/// Chooses the metric to rank by if the results do not name one: failures if faults caused any, the
/// tail of the latency if the rate is given, and the capacity otherwise.
fn metric(entries: &[Entry<'_>]) -> Metric {
    let rows = || entries.iter().map(|entry| entry.row);
    let faulty = rows().any(|row| row.faults().next().is_some())
        && rows().any(|row| Metric::Failed.of(row).is_some_and(|failed| failed >= 1.0));
    let measured = |metric: Metric| rows().any(|row| metric.of(row).is_some());
    if faulty {
        Metric::Failed
    } else if rows().any(|row| row.load.as_deref() == Some("open")) || !measured(Metric::Throughput)
    {
        Metric::P99
    } else {
        Metric::Throughput
    }
}

/// The kind of load that the contestants of a group have to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadKind {
    /// Faults, bursts and cold starts: where pools differ.
    Disturbed,
    /// A rate, and nothing goes wrong.
    Quiet,
    /// A closed loop: each caller sends as soon as it has its reply.
    Closed,
}

impl Group<'_> {
    /// The figure that its scenario is about, if any row has it.
    fn figure(&self) -> Option<Metric> {
        let mut rows = self.entries.iter().map(|entry| entry.row);
        let metric = rows.clone().find_map(|row| Metric::of_figure(row.figure.as_deref()?))?;
        rows.any(|row| metric.of(row).is_some()).then_some(metric)
    }

    /// What happens in its scenario.
    pub fn about(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.row.about.as_deref())
    }

    /// What its scenario should show.
    pub fn teaches(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| entry.row.teaches.as_deref())
    }

    /// Metrics that may differ besides the one that ranks. In a closed loop the number of requests depends
    /// on the contestant, so connections for a thousand of them say nothing.
    pub fn others(&self) -> &'static [Metric] {
        match self.load_kind() {
            LoadKind::Closed => &[Metric::Failed, Metric::Throughput, Metric::Cpu],
            _ => &[
                Metric::Failed,
                Metric::P99,
                Metric::Recovery,
                Metric::Opened,
                Metric::Dials,
                Metric::Cpu,
            ],
        }
    }

    /// The kind of its load.
    pub fn load_kind(&self) -> LoadKind {
        let mut rows = self.entries.iter().map(|entry| entry.row);
        let faulty = rows.clone().any(|row| row.faults().next().is_some());
        // Bursts and a start have no rate.
        match rows.clone().any(|row| row.load.as_deref() == Some("open")) {
            true if faulty || rows.all(|row| row.rate_per_s.is_none()) => LoadKind::Disturbed,
            true => LoadKind::Quiet,
            false if faulty => LoadKind::Disturbed,
            false => LoadKind::Closed,
        }
    }

    /// The heading.
    pub fn title(&self) -> String {
        let mut words = vec![self.protocol.clone(), self.scenario.clone()];
        words.retain(|word| !word.is_empty());
        if words.is_empty() {
            words.push("Histogram logs".to_owned());
        }
        if self.budget.as_deref() == Some("own") {
            words.push("(each with its own budget)".to_owned());
        }
        words.join(" ")
    }

    /// How the load was made.
    pub fn load(&self) -> String {
        let rows = || self.entries.iter().map(|entry| entry.row);
        let Some(first) = rows().next() else { return String::new() };
        let request: String =
            self.request.iter().map(|words| format!(", {}", text::clip(words, 120))).collect();
        match first.load.as_deref() {
            Some("open") => {
                let arrivals = first.arrivals.as_deref().map(|how| format!(", {how} arrivals"));
                let rate = first.rate_per_s.map(|rate| format!(", {}/s", text::figure(rate)));
                let ladder = match first.step {
                    Some(_) => ", the highest rate of the sweep that all of them served",
                    None => "",
                };
                format!(
                    "open loop{}{}{ladder}{request}; latency counts from the intended start",
                    arrivals.unwrap_or_default(),
                    rate.unwrap_or_default()
                )
            }
            Some("closed") => {
                let callers = text::or_unknown(first.callers, text::count);
                format!(
                    "closed loop, {callers} callers{request}: capacity, not what a user waits at a given rate"
                )
            }
            _ => String::new(),
        }
    }

    /// Faults that were in force from the beginning of each turn to its end.
    pub fn conditions(&self) -> Vec<String> {
        let events = self.entries.iter().flat_map(|entry| &entry.row.events);
        let mut names: Vec<String> = events
            .filter(|event| event.is_condition())
            .map(|event| text::clip(event.name(), 60))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Finds the entries whose options differ from those of the same row in the first file.
    fn mark_unlike(&mut self, sources: &[Source]) {
        let file = |entry: &Entry<'_>| &sources[entry.file].results;
        for index in 0..self.entries.len() {
            let own = &self.entries[index];
            let base = self.entries.iter().find(|other| other.file == 0 && other.is_like(own));
            if let Some(base) = base.filter(|_| own.file > 0) {
                let unlike = comparable::of_rows((file(base), base.row), (file(own), own.row));
                self.entries[index].unlike = unlike;
            }
        }
    }

    /// Whether this file's rows are compared with the first file's.
    pub fn compares_files(&self) -> bool {
        self.entries.iter().any(|entry| entry.file > 0)
    }

    /// Why it is undecided, in words.
    pub fn too_little(&self) -> &'static str {
        let played = self.entries.iter().filter_map(|entry| entry.row.rounds);
        match played.fold(0.0, f64::max) > 1.0 {
            // Percentiles of workers cannot be merged round by round.
            true => "a merged file without the figure of each round",
            false => "one round",
        }
    }

    /// Why rounds are too few to call contestants equal that are not told apart, in words. Two rounds have
    /// an interval, but one in which almost everything lies.
    pub fn too_few(&self) -> Option<&'static str> {
        if self.is_undecided() {
            return Some(self.too_little());
        }
        self.has_unsure_tier().then_some("a run of two rounds")
    }

    /// Whether there are too few rounds to show a difference between any two contestants.
    pub fn is_undecided(&self) -> bool {
        self.entries.iter().all(|entry| self.metric.rounds(entry.row).len() < 2)
    }
}

/// Whether a row is the limit or no-pool. They are the ends of the scale, and not pools that a user could
/// choose.
pub fn is_scale(row: &Row) -> bool {
    row.is_limit() || row.contestant.as_deref() == Some("no-pool")
}

/// Whether a row is the limit that pools are measured against.
pub fn is_limit(row: &Row) -> bool {
    row.kind.as_deref() == Some("limit") && row.contestant.as_deref() != Some("no-pool")
}

/// Why there is no verdict on a row, in words.
pub fn unsound(row: &Row) -> Option<String> {
    let counted = |number: Option<f64>, what: &str| {
        let number = number.filter(|number| *number > 0.0)?;
        Some(format!("{} {what}", text::count(number)))
    };
    // Under faults a request that may run twice is allowed to run twice.
    let duplicates = row.duplicates.filter(|_| row.faults().next().is_none());
    let parts: Vec<String> = [
        counted(row.mismatches, "replies that were not their request's"),
        counted(duplicates, "requests carried out twice"),
        counted(row.leaked, "sockets left open"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// All requests of a row, with a reply or without.
pub fn asked(row: &Row) -> Option<f64> {
    Some(row.requests? + row.failed().unwrap_or(0.0))
}
