//! What stands below a figure: how it is to be read, and where its data come from. Which panels are
//! left out.

use super::figure::{Figure, Panel, Style};
use super::panel::is_clipped;
use super::plot::is_faceted;
use super::seeds::Data;
use std::collections::{BTreeMap, BTreeSet};

/// Between the parts of an origin.
const BETWEEN: &str = "   ·   ";

impl Figure {
    /// The panels that are drawn: those in which something differs, or the first.
    pub fn drawn(&self) -> Vec<&Panel> {
        let differs = |panel: &&Panel| constant(self, panel).is_none();
        let some: Vec<&Panel> = self.panels.iter().filter(differs).collect();
        if some.is_empty() { self.panels.iter().take(1).collect() } else { some }
    }
}

/// The value that a panel has throughout.
fn constant(figure: &Figure, panel: &Panel) -> Option<String> {
    if matches!(panel.style, Style::Scatter | Style::Path) {
        return None;
    }
    let data = Data::of(figure, panel);
    data.constant().map(|value| data.number(value))
}

/// The command that made the data, and where it ran. Figures of earlier versions said there how to
/// read them, which is no longer how they are drawn.
pub fn origin(figure: &Figure) -> String {
    let part = |part: &str| match part.split_once(" scale, ") {
        Some((scale, _)) => Some(format!("{scale} scale")),
        None => (!part.contains("mean ± 95 % interval")).then(|| part.to_string()),
    };
    figure.caption.split(BETWEEN).filter_map(part).collect::<Vec<_>>().join(BETWEEN)
}

/// How the figure is to be read, in sentences.
pub fn reading(figure: &Figure) -> String {
    let panels = figure.drawn();
    let all: Vec<(&Panel, Data)> = panels.iter().map(|panel| (*panel, Data::of(figure, panel))).collect();
    let has = |wanted: &dyn Fn(&Panel) -> bool| panels.iter().any(|panel| wanted(panel));
    let curves = has(&|panel| matches!(panel.style, Style::Curves | Style::LogCurves));
    let (columns, heat) = (has(&|panel| panel.style == Style::Columns), has(&|p| p.style.heat().is_some()));
    let (scatter, path) = (has(&|p| p.style == Style::Scatter), has(&|p| p.style == Style::Path));
    let counts = seeds(figure);
    let several = counts.last().is_some_and(|most| *most > 1);
    let seeds = in_words(&counts);
    let mut said = Vec::new();
    match several {
        false if counts.is_empty() || path => {}
        false => said.push(seeds.clone()),
        true if curves => said.push(format!("Thick lines: medians of {seeds}, which are the thin lines")),
        true if columns => said.push(format!("Dots: {seeds}; lines: their medians")),
        true if heat => said.push(format!("Medians of {seeds}")),
        true => {}
    }
    if columns && all.iter().any(|(panel, data)| panel.style == Style::Columns && data.has_worst()) {
        said.push("Rings: the worst seeds".into());
    }
    if scatter {
        said.push("A marker for each run".into());
    }
    if path {
        let own: BTreeSet<u64> = figure.points.iter().map(|point| point.seed).collect();
        let of = match own.iter().collect::<Vec<_>>()[..] {
            [seed] => format!(" of seed {seed}"),
            _ => String::new(),
        };
        said.push(format!("A line for each run{of}, from the dot to its marker"));
    }
    if has(&|panel| is_faceted(figure, panel)) {
        said.push("Grey: the other arms".into());
    }
    if all.iter().any(|(panel, data)| lost(panel, data)) {
        let medians = if several { ", which medians leave out" } else { "" };
        said.push(format!("Crosses: runs that diverged{medians}"));
    }
    if all.iter().any(|(panel, data)| is_clipped(panel, data)) {
        said.push("Triangles at the edge: values beyond it".into());
    }
    let left_out = figure.panels.iter().filter(|panel| !panels.contains(panel));
    let left_out: Vec<String> =
        left_out.filter_map(|panel| Some(format!("{} ({})", panel.y, constant(figure, panel)?))).collect();
    if !left_out.is_empty() {
        said.push(format!("Not drawn, being constant: {}", left_out.join(", ")));
    }
    said.into_iter().map(|sentence| sentence + ". ").collect::<String>().trim_end().to_string()
}

/// Whether a panel shows runs that diverged.
fn lost(panel: &Panel, data: &Data) -> bool {
    let shows = matches!(panel.style, Style::Curves | Style::LogCurves | Style::Columns);
    shows && data.diverged.iter().any(|lost| !lost.is_empty())
}

/// The numbers of seeds that arms have, each once, in order.
fn seeds(figure: &Figure) -> Vec<usize> {
    let mut own: BTreeMap<&str, BTreeSet<u64>> = Default::default();
    for point in &figure.points {
        own.entry(&point.arm).or_default().insert(point.seed);
    }
    let mut counts: Vec<usize> = own.values().map(|seeds| seeds.len()).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

/// "8 seeds", "8 to 20 seeds".
fn in_words(counts: &[usize]) -> String {
    match counts {
        [] => String::new(),
        [1] => "1 seed".into(),
        [one] => format!("{one} seeds"),
        [least, .., most] => format!("{least} to {most} seeds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(caption: &str) -> Figure {
        let (title, caption) = (String::new(), caption.into());
        Figure { title, caption, arms: Vec::new(), panels: Vec::new(), points: Vec::new() }
    }

    #[test]
    fn captions_of_earlier_versions_lose_how_they_were_drawn() {
        let now = "sim run all   ·   laptop scale   ·   sim 0.1.0";
        for old in [
            "sim run all   ·   laptop scale, 3 seeds: small dots; mean ± 95 % interval   ·   sim 0.1.0",
            "sim run all   ·   laptop scale, 3 seeds: geometric mean   ·   sim 0.1.0",
            "sim run all   ·   laptop scale, 1 seed   ·   sim 0.1.0",
            now,
        ] {
            assert_eq!(origin(&figure(old)), now);
        }
        let theory = "sim theory   ·   3 random starts: thin lines; mean ± 95 % interval   ·   sim 0.1.0";
        assert_eq!(origin(&figure(theory)), "sim theory   ·   sim 0.1.0");
    }
}
