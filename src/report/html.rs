//! The report as one HTML page: no script, no network, light and dark, from a phone's width on.

use super::caption;
use super::chapter::between;
use super::chapter::{Chapter, VERDICTS};
use super::draw::{has_legend, panel_svg, sample_svg};
use super::figure::{Figure, Panel};
use super::head::head;
use super::panel::size;
use super::plot::is_faceted;
use super::tables::{self, Table};
use super::thumbnail::data_uri;
use crate::error::Result;
use crate::record::{Answer, AnswerClaim};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// The page about `chapters`: verdicts first, then each study.
///
/// # Errors
/// [`crate::Error::Failure`] where a figure cannot be drawn.
pub fn page(chapters: &[Chapter]) -> Result<String> {
    let tally = super::tally(chapters.iter().map(|chapter| &chapter.answer));
    let title = match chapters {
        [one] => one.answer.title.clone(),
        _ => "What the runs say of SimSiam".to_string(),
    };
    let names = names(chapters);
    let studies = chapters
        .iter()
        .zip(names.iter().enumerate())
        .map(|(c, name)| study(c, name))
        .collect::<Result<Vec<_>>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&title))
            body {
                header {
                    h1 { (title) }
                    p .tally { (tally) "." }
                    @for caution in between(chapters) { p .caution { "Caution: " (caution) "." } }
                    (bar(chapters))
                }
                main {
                    section #verdicts {
                        h2 { "Verdicts" }
                        (rules(chapters))
                        @for (chapter, name) in chapters.iter().zip(&names) {
                            (verdicts(chapter, name, chapters.len() > 1))
                        }
                    }
                    @for study in &studies { (study) }
                }
            }
        }
    };
    Ok(page.into_string())
}

/// What a study is called on the page.
struct Name {
    /// Unique, of letters that an address may hold.
    id: String,
    /// Its title, and its command where two studies have one title.
    title: String,
}

fn names(chapters: &[Chapter]) -> Vec<Name> {
    let name = |(index, chapter): (usize, &Chapter)| {
        let Answer { study, title, command, .. } = &chapter.answer;
        let plain = study.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let same = |field: fn(&Answer) -> &String| {
            chapters.iter().filter(|other| field(&other.answer) == field(&chapter.answer)).count() > 1
        };
        Name {
            id: if same(|a| &a.study) || plain != *study { format!("{plain}-{}", index + 1) } else { plain },
            title: if same(|a| &a.title) { format!("{title}: {command}") } else { title.clone() },
        }
    };
    chapters.iter().enumerate().map(name).collect()
}

/// How the claims were judged: those of earlier versions have no evidence.
fn rules(chapters: &[Chapter]) -> Markup {
    let claims = || chapters.iter().flat_map(|chapter| &chapter.answer.claims);
    let signs = claims().any(|claim| claim.evidence.is_some());
    let intervals = claims().any(|claim| claim.evidence.is_none());
    html! {
        @if signs {
            p .aside {
                "Seed by seed a claim holds or fails. It is reproduced where the evidence that it holds in more \
                 than half of all seeds is E = 40 or more (8 of 8 seeds, 11 of 12, 17 of 20), contradicted where \
                 the evidence for the opposite is, undecided otherwise. E may be looked at after every seed: a \
                 claim at the boundary gets a verdict on one side with 2.5 % at most. A claim about every run is \
                 contradicted by one counterexample."
            }
        }
        @if intervals {
            p .aside {
                @if signs { "Verdicts without E are of an earlier version: " } @else { "An earlier version judged: " }
                "reproduced where the whole 95 % interval of a mean over seeds (Student's t, paired by seed) satisfied \
                 the claim, contradicted where none of it did, undecided otherwise."
            }
        }
    }
}

/// How many claims have which verdict, as lengths.
fn bar(chapters: &[Chapter]) -> Markup {
    let count = |verdict: &str| chapters.iter().map(|chapter| chapter.verdicts(verdict)).sum::<usize>();
    html! {
        div .bar aria-hidden="true" {
            @for verdict in VERDICTS {
                @if count(verdict) > 0 {
                    span class=(verdict) style={ "flex-grow:" (count(verdict)) } { (count(verdict)) }
                }
            }
        }
    }
}

fn verdicts(chapter: &Chapter, name: &Name, named: bool) -> Markup {
    let claims = &chapter.answer.claims;
    html! {
        @if named { h3 { a href={ "#" (name.id) } { (name.title) } } }
        @if claims.is_empty() { p .aside { "No claims." } }
        ul .claims {
            @for claim in claims { (verdict(claim)) }
        }
    }
}

fn verdict(claim: &AnswerClaim) -> Markup {
    let sign = match claim.verdict.as_str() {
        "reproduced" => "✓",
        "contradicted" => "✗",
        _ => "?",
    };
    html! {
        li {
            span class={ "verdict " (claim.verdict) } { span aria-hidden="true" { (sign) } " " (claim.verdict) }
            div {
                (claim.claim)
                p .aside { (claim.detail()) }
            }
        }
    }
}

fn study(chapter: &Chapter, (index, name): (usize, &Name)) -> Result<Markup> {
    let answer = &chapter.answer;
    let film = chapter.film.as_ref().map(|film| film.figure(index)).transpose()?;
    let figures = chapter.figures.iter().map(figure).collect::<Result<Vec<_>>>()?;
    let differences = tables::differences(answer);
    Ok(html! {
        section id=(name.id) {
            h2 { (name.title) }
            p .question { (answer.question) }
            @if let Some(paper) = &answer.paper {
                p .aside { "Chen & He 2020, " (paper.r#where) ". " (super::tally([answer])) "." }
            }
            @for figure in &figures { (figure) }
            @if let Some(film) = &film { (film) }
            @for picture in &chapter.pictures {
                figure {
                    img src=(data_uri(&picture.png)) alt=(picture.title) style="max-width:100%" loading="lazy";
                    figcaption { (picture.title) }
                }
            }
            (table(&tables::arms(answer)))
            @for caution in &answer.cautions { p .caution { "Caution: " (caution) "." } }
            @if !differences.rows.is_empty() { (table(&differences)) }
            (provenance(answer))
        }
    })
}

fn figure(figure: &Figure) -> Result<Markup> {
    let drawn = figure.drawn();
    let panels = drawn
        .iter()
        .map(|panel| Ok((*panel, panel_svg(figure, panel)?)))
        .collect::<Result<Vec<(&Panel, String)>>>()?;
    let samples = (0..figure.arms.len()).map(|arm| sample_svg(figure, arm)).collect::<Result<Vec<_>>>()?;
    let class = |panel| if is_faceted(figure, panel) { "panel wide" } else { "panel" };
    Ok(html! {
        figure {
            @if has_legend(figure, &drawn) {
                ul .legend {
                    @for ((_, title), sample) in figure.arms.iter().zip(&samples) {
                        li { (PreEscaped(sample)) " " (title) }
                    }
                }
            }
            div .panels {
                @for (panel, svg) in &panels {
                    div class=(class(panel)) style={ "flex:0 1 " (size(figure, panel, true).0) "px" } {
                        (PreEscaped(svg))
                    }
                }
            }
            figcaption {
                (figure.title) ". " (caption::reading(figure))
                br;
                (caption::origin(figure))
            }
            details {
                summary { "The numbers of this figure" }
                @for panel in &figure.panels { (table(&tables::medians(figure, panel))) }
            }
        }
    })
}

fn table(table: &Table) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label=(table.caption) {
            table .numbers[table.numbers] {
                caption { (table.caption) }
                thead { tr { @for cell in &table.header { th scope="col" { (cell) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the numbers come from.
fn provenance(answer: &Answer) -> Markup {
    let times: Vec<f64> =
        answer.arms.iter().flat_map(|arm| arm.runs.iter().filter_map(|run| run.wall_s)).collect();
    let seeds: Vec<String> = answer.seeds.iter().map(u64::to_string).collect();
    let recipe = Table {
        caption: format!(
            "{}: the recipe of the arm {}",
            answer.title,
            answer.arms.first().map_or("", |arm| &arm.arm)
        ),
        header: vec!["key".into(), "value".into()],
        rows: answer.recipe.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect(),
        numbers: false,
    };
    html! {
        details .provenance {
            summary { "Where the numbers come from" }
            dl {
                dt { "command" } dd { code { (answer.command) } }
                dt { "program" } dd { "sim " (answer.sim) }
                dt { "scale" } dd { (answer.scale) }
                dt { "seeds" } dd { (seeds.join(", ")) }
                @if !times.is_empty() {
                    dt { "wall time" }
                    dd { (duration(times.iter().sum())) " in " (super::count(times.len(), "run")) ", as each of them measured it" }
                }
                @for machine in &answer.machines { (of_machine(machine)) }
            }
            (table(&recipe))
        }
    }
}

fn of_machine(machine: &BTreeMap<String, Value>) -> Markup {
    html! {
        @for (key, value) in machine {
            dt { (key.replace('_', " ")) }
            dd { (words(value)) }
        }
    }
}

/// A value of env.json as a person writes it.
fn words(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(". Then "),
        Value::Object(values) => {
            let named = |(key, value): (&String, &Value)| format!("{key} {}", words(value));
            values.iter().map(named).collect::<Vec<_>>().join("; ")
        }
        _ => value.to_string(),
    }
}

/// "12 s", "3 min", "2 h 5 min".
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0..2 => format!("{seconds:.0} s"),
        2..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computed_a_runs_first_steps_is_told_in_words() {
        let part = |kernel: &str| serde_json::json!({ "algorithm": "a, b", "kernel": kernel });
        let earlier = serde_json::json!([part("cuda"), part("avx2")]);
        assert_eq!(words(&earlier), "algorithm a, b; kernel cuda. Then algorithm a, b; kernel avx2");
        assert_eq!(words(&serde_json::json!(24)), "24");
    }
}
