//! The page: one HTML file made of results.json alone, with its own pictures, style and script.
//!
//! The same files give the same bytes, but for the one line about their age. Everything that came
//! from outside is escaped where it is written; the page's own policy allows no request to leave it
//! and no script but its own.

use std::time::SystemTime;

mod bars;
mod curves;
mod group;
pub mod input;
mod lanes;
pub mod markdown;
mod policies;
mod ranking;
mod sentences;
mod standing;
pub(crate) mod stats;
mod strips;
pub mod summary;
mod svg;
mod tables;
mod text;
mod validity;

use group::{Group, Model};
use input::{Raw, Source};
use sentences::{Banner, Level};
use text::escape;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The hash of [`SCRIPT`], the only script that a browser may run on the page. After a change the
/// browser test fails and prints the new hash.
const SCRIPT_HASH: &str = "sha256-+4OMmnZDze0xIOxdZnB8E//jmQYtxjjkHx6VAB0OH18=";

/// Makes the page. `now` is the time its age is judged by; `None` when the results are new.
pub fn page(sources: &[Source], now: Option<SystemTime>) -> String {
    let model = Model::new(sources);
    let banners = sentences::banners(&model, now);
    let withdrawn = banners.iter().any(|banner| banner.level == Level::Red);
    let mut html = String::new();
    html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str(&format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'; base-uri 'none'; form-action 'none'\">\n"
    ));
    html.push_str(&format!(
        "<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n",
        escape(&title(&model))
    ));
    html.push_str(&format!("<body{}>\n", if withdrawn { " class=\"withdrawn\"" } else { "" }));
    head(&mut html, &model, &banners, withdrawn);
    html.push_str("<main>\n");
    controls(&mut html, &model);
    for (index, group) in model.groups.iter().enumerate() {
        section(&mut html, &model, group, index, withdrawn);
    }
    if let Some(table) = tables::safety(&model) {
        html.push_str("<section id=\"safety\" data-chart=\"safety\">\n<h2>Safety</h2>\n<p>What became of the requests under each fault. Lost: the caller saw an error. Run twice: a request that must not be repeated was carried out more than once. Wrong: the caller got another request's reply.</p>\n");
        html.push_str(&table);
        html.push_str("</section>\n");
    }
    if let Some(table) = policies::table(&model) {
        html.push_str("<section id=\"policies\" data-chart=\"policies\">\n<h2>Policies</h2>\n<p>The answers of each contestant to the questions of a pool. Marked: answers other than the most common one.</p>\n");
        html.push_str(&table);
        html.push_str("</section>\n");
    }
    closing(&mut html, &model);
    html.push_str("</main>\n<div id=\"tip\" role=\"tooltip\" hidden></div>\n");
    html.push_str(&format!(
        "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        data(sources)
    ));
    html
}

fn title(model: &Model<'_>) -> String {
    let groups: Vec<String> = model.groups.iter().map(Group::title).collect();
    format!("poolbench: {}", text::clip(&text::list(&groups), 120))
}

/// The files as they were, for the download.
fn data(sources: &[Source]) -> String {
    let one = |source: &Source| match &source.raw {
        Raw::Json(text) => text::json_in_script(text.trim()),
        Raw::Log(text) => text::json_in_script(&serde_json::json!({ "hlog": text }).to_string()),
    };
    match sources {
        [only] => one(only),
        several => {
            let files: Vec<String> = several
                .iter()
                .map(|source| {
                    let name = serde_json::Value::from(source.name.as_str()).to_string();
                    format!(
                        "{{\"name\":{},\"content\":{}}}",
                        text::json_in_script(&name),
                        one(source)
                    )
                })
                .collect();
            format!("{{\"files\":[{}]}}", files.join(",\n"))
        }
    }
}

/// The verdict and what has to be known with it.
fn head(html: &mut String, model: &Model<'_>, banners: &[Banner], withdrawn: bool) {
    html.push_str("<header>\n<h1>poolbench: which connection pool behaves how?</h1>\n");
    html.push_str(&format!(
        "<p class=\"verdict\">{}</p>\n",
        escape(&sentences::headline(model, withdrawn))
    ));
    for source in model.sources {
        html.push_str(&facts(source, model.sources.len() > 1));
    }
    for banner in banners {
        let class = match banner.level {
            Level::Red => "banner red",
            Level::Amber => "banner amber",
            Level::Note => "banner",
        };
        let role = if banner.level == Level::Red { " role=\"alert\"" } else { "" };
        html.push_str(&format!("<p class=\"{class}\"{role}>{}</p>\n", escape(&banner.words)));
    }
    let warnings: usize = model.sources.iter().map(|source| source.results.warnings.len()).sum();
    if warnings > 0 {
        let plural = if warnings == 1 { "" } else { "s" };
        html.push_str(&format!(
            "<p class=\"facts\"><a href=\"#notes\">{warnings} warning{plural} of the run</a></p>\n"
        ));
    }
    if model.groups.len() > 1 {
        html.push_str("<nav aria-label=\"Comparisons\"><ul class=\"findings\">\n");
        for (index, group) in model.groups.iter().enumerate() {
            let (sentence, spread) = sentences::verdict(group);
            let sentence = if withdrawn { String::new() } else { sentence };
            let class = if spread > 1.0 { "" } else { " class=\"even\"" };
            html.push_str(&format!(
                "<li{class}><a href=\"#g{index}\">{}</a> {}</li>\n",
                escape(&text::clip(&group.title(), 80)),
                escape(&sentence)
            ));
        }
        html.push_str("</ul></nav>\n");
    }
    html.push_str("</header>\n");
}

/// Machine, placement, version and seed of a file.
fn facts(source: &Source, named: bool) -> String {
    let results = &source.results;
    let mut facts: Vec<(&str, String)> = Vec::new();
    if named {
        facts.push(("file", source.name.clone()));
    }
    let version = results.tool.version.as_ref().map(|version| match &results.tool.git {
        Some(git) => format!("{version}, commit {}", text::clip(git, 48)),
        None => version.clone(),
    });
    facts.extend(version.map(|version| ("poolbench", version)));
    if let Some(at) = results.measured_at_unix_s.filter(|at| *at < 1 << 37) {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at);
        facts.push(("measured", humantime::format_rfc3339_seconds(at).to_string()));
    }
    for (key, name) in
        [("cpu", "machine"), ("cores", "cores"), ("kernel", "kernel"), ("placement", "placement")]
    {
        let value = &results.environment[key];
        if !value.is_null() {
            facts.push((name, text::clip(&policies::words_of(value), 160)));
        }
    }
    let request = results.settings().request.unwrap_or_default().words();
    if !request.is_empty() {
        facts.push(("request", text::clip(&request.join(", "), 160)));
    }
    for (key, name) in
        [("command", "command"), ("seed", "seed"), ("set", "set"), ("target", "target")]
    {
        let value = &results.options[key];
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            facts.push((name, text::clip(&policies::words_of(value), 160)));
        }
    }
    let spans: String = facts
        .iter()
        .map(|(name, value)| format!("<span>{name} <b>{}</b></span>", escape(value)))
        .collect();
    if spans.is_empty() { String::new() } else { format!("<p class=\"facts\">{spans}</p>\n") }
}

/// What can be hidden and changed. The script shows it.
fn controls(html: &mut String, model: &Model<'_>) {
    html.push_str("<div id=\"controls\" role=\"group\" aria-label=\"What is shown\" hidden>\n");
    for (index, contestant) in model.contestants.iter().enumerate() {
        html.push_str(&format!(
            "<label class=\"{}\"><input type=\"checkbox\" value=\"c{index}\" checked><span class=\"swatch\"></span>{}</label>\n",
            contestant.colour,
            escape(&text::clip(&contestant.name, 40))
        ));
    }
    if model.sources.len() > 1 {
        for (index, source) in model.sources.iter().enumerate() {
            html.push_str(&format!(
                "<label><input type=\"checkbox\" value=\"f{index}\" checked>{}</label>\n",
                escape(&text::clip(&source.name, 40))
            ));
        }
    }
    let name =
        if model.sources.len() == 1 { "results.json" } else { "results-of-several-files.json" };
    html.push_str(&format!(
        "<span class=\"end\"><button id=\"show-all\" type=\"button\">Show all</button><button id=\"theme\" type=\"button\">Theme: auto</button><button id=\"download\" type=\"button\" data-name=\"{name}\">Download data</button></span>\n</div>\n"
    ));
}

/// Charts for a second look: many screens of them would stand between one verdict and the next. On paper
/// they are open.
const FOLDED: [&str; 3] = ["dots", "breakdown", "lanes"];

/// One comparison with all its charts; a chart without data is left out.
fn section(html: &mut String, model: &Model<'_>, group: &Group<'_>, index: usize, withdrawn: bool) {
    let several = model.sources.len() > 1;
    html.push_str(&format!("<section id=\"g{index}\">\n<h2>{}</h2>\n", escape(&group.title())));
    if let Some(about) = group.about() {
        let words = format!("What happens: {}.", text::clip(about, 300));
        html.push_str(&format!("<p class=\"hint\">{}</p>\n", escape(&words)));
    }
    if let Some(teaches) = group.teaches() {
        let words = format!("Shows: {}.", text::clip(teaches, 200));
        html.push_str(&format!("<p class=\"hint\">{}</p>\n", escape(&words)));
    }
    let load = group.load();
    if !load.is_empty() {
        html.push_str(&format!("<p class=\"hint\">{}</p>\n", escape(&load)));
    }
    let conditions = group.conditions();
    if !conditions.is_empty() {
        let words = format!("Throughout: {}.", conditions.join(", "));
        html.push_str(&format!("<p class=\"hint\">{}</p>\n", escape(&words)));
    }
    if !withdrawn {
        // Of one comparison the head has said it.
        let mut sentences =
            if model.groups.len() > 1 { vec![sentences::verdict(group).0] } else { Vec::new() };
        sentences.extend(sentences::beside(group));
        html.push_str(&format!(
            "<p class=\"said\">{}</p>\n",
            sentences
                .iter()
                .map(|words| escape(&text::capital(words)))
                .collect::<Vec<_>>()
                .join("<br>")
        ));
    }
    html.push_str(&format!(
        "<div data-chart=\"verdicts\">{}</div>\n",
        tables::verdicts(group, withdrawn)
    ));
    let mut chart = |name: &str, heading: &str, hint: &str, body: Option<String>| {
        let Some(body) = body else { return };
        let hint = format!("<p class=\"hint\">{hint}</p>");
        html.push_str(&match FOLDED.contains(&name) {
            true => format!(
                "<details class=\"fold\" data-chart=\"{name}\">\n<summary><h3>{heading}</h3></summary>\n{hint}\n{body}</details>\n"
            ),
            false => format!(
                "<div data-chart=\"{name}\">\n<h3>{heading}</h3>\n{hint}\n{body}</div>\n"
            ),
        });
    };
    let dashes = if several {
        "Each file has its own dashes."
    } else if group.entries.iter().any(|entry| entry.row.variant.is_some()) {
        "Thick: from the intended start; each way of a contestant has its own dashes and points. Thin, where it was measured: the service alone."
    } else {
        "Solid: from the intended start. Dashed, where it was measured: the service alone."
    };
    chart(
        "percentiles",
        "Latency by percentile",
        dashes,
        curves::percentiles(group, several).map(figure),
    );
    chart(
        "sweep",
        "Latency over the offered rate",
        &format!("Solid: p99, dashed: p50. The {}.", crate::report::sweep::rule()),
        curves::sweep(group).map(figure),
    );
    let timeline = strips::timeline(group).map(|strips| {
        format!(
            "{}{TIMELINE_LEGEND}<div class=\"strips\">{strips}</div>\n",
            tables::fault_figures(group).unwrap_or_default()
        )
    });
    chart(
        "timeline",
        "What happened when",
        "Times after a fault are medians over the rounds. The time lines are the last round, step by step, on the same axes.",
        timeline,
    );
    let dots_hint = "A dot for each round, a bar at the median.";
    chart("dots", "Round by round", dots_hint, bars::dots(group, group.metric).map(figure));
    chart(
        "shares",
        "Share of the second backend",
        "Every second connection leads to it; the dotted line is an even share.",
        strips::shares(group).map(|strips| format!("<div class=\"strips\">{strips}</div>\n")),
    );
    chart(
        "breakdown",
        "Where the time went",
        "Means, since parts of a percentile do not add up. Getting a connection is waiting for one, its dial and its check together; request to reply is the whole exchange.",
        bars::breakdown(group).map(|svg| bars::breakdown_legend() + &figure(svg)),
    );
    chart(
        "lanes",
        "Lives of connections",
        &escape(&lanes::hint(group)),
        lanes::lanes(group).map(|strips| format!("{}{strips}", lanes::LEGEND)),
    );
    html.push_str("</section>\n");
}

const TIMELINE_LEGEND: &str = "<p class=\"legend\"><span class=\"key\"><i class=\"st-idle\"></i>idle</span><span class=\"key\"><i class=\"st-leased\"></i>leased</span><span class=\"key\"><i class=\"st-draining\"></i>draining</span><span class=\"key\"><i class=\"st-dialing\"></i>dialing</span><span class=\"key\"><i class=\"line\"></i>callers waiting</span><span class=\"key\"><i class=\"band\"></i>fault</span></p>\n";

fn figure(svg: String) -> String {
    format!("<figure>{svg}</figure>\n")
}

/// Warnings, settings, and what the numbers cannot say.
fn closing(html: &mut String, model: &Model<'_>) {
    html.push_str("<section id=\"notes\" data-chart=\"notes\">\n");
    let several = model.sources.len() > 1;
    let warnings: Vec<String> = model
        .sources
        .iter()
        .flat_map(|source| {
            let of = if several { format!("{}: ", source.name) } else { String::new() };
            source.results.warnings.iter().map(move |warning| format!("{of}{warning}"))
        })
        .collect();
    let items = |lines: &[String]| -> String {
        lines.iter().map(|line| format!("<li>{}</li>\n", escape(line))).collect()
    };
    if !warnings.is_empty() {
        html.push_str(&format!(
            "<h2>Warnings</h2>\n<ul class=\"warnings\">\n{}</ul>\n",
            items(&warnings)
        ));
    }
    html.push_str("<h2>Settings</h2>\n");
    for source in model.sources {
        html.push_str(&settings(source));
    }
    html.push_str(&format!(
        "<h2>What the numbers cannot say</h2>\n<ul class=\"limits\">\n{}</ul>\n</section>\n",
        items(&sentences::limits_of_the_numbers(model))
    ));
}

fn settings(source: &Source) -> String {
    let mut rows = String::new();
    for (part, value) in
        [("environment", &source.results.environment), ("options", &source.results.options)]
    {
        for (name, words) in flat(part, value) {
            rows.push_str(&format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escape(&name),
                escape(&words)
            ));
        }
    }
    if rows.is_empty() {
        rows.push_str("<tr><td>none are in the file</td></tr>");
    }
    format!(
        "<details><summary>{}</summary><table class=\"settings plain\"><tbody>{rows}</tbody></table></details>\n",
        escape(&source.name)
    )
}

/// The leaves of a JSON value with the way to them; an object in a list is one line.
fn flat(name: &str, value: &serde_json::Value) -> Vec<(String, String)> {
    use serde_json::Value;
    match value {
        Value::Null => Vec::new(),
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| flat(&format!("{name} {key}"), value)).collect()
        }
        Value::Array(values) if values.iter().any(Value::is_object) => values
            .iter()
            .zip(1..)
            .map(|(value, index)| (format!("{name} {index}"), policies::words_of(value)))
            .collect(),
        Value::Array(values) if values.is_empty() => Vec::new(),
        other => vec![(name.to_owned(), policies::words_of(other))],
    }
}

#[cfg(test)]
mod tests;
