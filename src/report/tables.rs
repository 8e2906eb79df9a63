//! The tables of a report, and how they look in Markdown and in LaTeX.

use super::chapter::{Chapter, between};
use super::figure::{Figure, Panel, Style};
use super::panel::in_words;
use crate::record::Answer;

/// Cells as text; the first column says what a row is.
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// One cell for each column.
    pub header: Vec<String>,
    /// Rows as long as the header.
    pub rows: Vec<Vec<String>>,
    /// Whether the columns after the first hold numbers.
    pub numbers: bool,
}

/// A report that is not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Markdown with tables as GitHub draws them.
    Markdown,
    /// LaTeX with the package booktabs.
    Latex,
}

/// Arms × metrics, with the paper's number beside ours.
pub fn arms(answer: &Answer) -> Table {
    let paper = answer.paper.as_ref().filter(|_| answer.arms.iter().any(|arm| arm.paper.is_some()));
    let (header, rows) = answer.table();
    let paper = paper.map_or_else(String::new, |paper| format!("; the paper's numbers are {}", paper.metric));
    let caption = format!("{}, {} scale, {}{paper}", answer.title, answer.scale, answer.cells());
    Table { caption, header, rows, numbers: true }
}

/// Verdicts, claims and effects.
fn claims(answer: &Answer) -> Table {
    let row =
        |claim: &crate::record::AnswerClaim| vec![claim.verdict.clone(), claim.claim.clone(), claim.detail()];
    Table {
        caption: format!("{}: verdicts", answer.title),
        header: ["verdict", "claim", "judged by"].map(String::from).to_vec(),
        rows: answer.claims.iter().map(row).collect(),
        numbers: false,
    }
}

/// The keys in which arms differ.
pub fn differences(answer: &Answer) -> Table {
    let mut header = vec!["key".to_string()];
    header.extend(answer.arms.iter().map(|arm| arm.arm.clone()));
    let row = |(key, values): (&String, &Vec<String>)| {
        let values = values.iter().map(|value| if value.is_empty() { "-" } else { value.as_str() });
        std::iter::once(key.as_str()).chain(values).map(String::from).collect()
    };
    let rows = answer.differences.iter().map(row).collect();
    Table { caption: format!("{}: how the arms differ", answer.title), header, rows, numbers: false }
}

/// The medians of a panel with the range of seeds: curves as epochs × arms, columns as arms ×
/// value.
pub fn medians(figure: &Figure, panel: &Panel) -> Table {
    let medians = in_words(figure, panel);
    let names = || figure.arms.iter().map(|(name, _)| name.clone());
    let what = match panel.style {
        Style::Scatter | Style::Path => "",
        _ => ", median (lowest to highest seed)",
    };
    let caption = format!("{}: {}{what}", figure.title, panel.y);
    if matches!(panel.style, Style::Columns | Style::Scatter | Style::Path) {
        let row = |(name, values): (String, &Vec<(f64, String)>)| {
            vec![name, values.first().map_or_else(|| "-".to_string(), |(_, value)| value.clone())]
        };
        let rows = names().zip(&medians).map(row).collect();
        let by = if matches!(panel.style, Style::Scatter | Style::Path) {
            format!(" at {}", panel.x)
        } else {
            String::new()
        };
        let head = format!("{}{by}", panel.y);
        return Table { caption, header: vec!["arm".into(), head], rows, numbers: true };
    }
    let mut xs: Vec<f64> = medians.iter().flatten().map(|(x, _)| *x).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let cell = |arm: &Vec<(f64, String)>, x: f64| {
        arm.iter().find(|(other, _)| *other == x).map_or_else(|| "-".to_string(), |(_, value)| value.clone())
    };
    let row = |x: &f64| {
        std::iter::once(x.to_string()).chain(medians.iter().map(|arm| cell(arm, *x))).collect::<Vec<_>>()
    };
    let header = std::iter::once(panel.x.clone()).chain(names()).collect();
    Table { caption, header, rows: xs.iter().map(row).collect(), numbers: true }
}

/// The report in `format`: for each study the table of arms and that of verdicts.
pub fn text(chapters: &[Chapter], format: Format) -> String {
    let tally = super::tally(chapters.iter().map(|chapter| &chapter.answer));
    let mut text = match format {
        Format::Markdown => format!("{tally}.\n"),
        Format::Latex => format!("% {tally}; needs \\usepackage{{booktabs}}\n"),
    };
    let note = |caution: &String| match format {
        Format::Markdown => format!("\nCaution: {caution}.\n"),
        Format::Latex => format!("% caution: {caution}\n"),
    };
    text.extend(between(chapters).iter().map(note));
    for Chapter { answer, .. } in chapters {
        text.push_str(&match format {
            Format::Markdown => {
                format!("\n## {}\n\n{} `{}`\n\n", answer.title, answer.question, answer.command)
            }
            Format::Latex => format!("\n% {}\n", answer.command),
        });
        let tables = [Some(arms(answer)), (!answer.claims.is_empty()).then(|| claims(answer))];
        for (index, table) in tables.into_iter().flatten().enumerate() {
            text.push_str(&match format {
                Format::Markdown => markdown(&table) + &legend(&table) + "\n",
                Format::Latex => latex(&table, &format!("tab:{}-{index}", answer.study)),
            });
        }
        text.extend(answer.cautions.iter().map(note));
    }
    text
}

fn markdown(table: &Table) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let align = if table.numbers { "---:|" } else { "---|" };
    let rule = format!("|---|{}\n", align.repeat(table.header.len().saturating_sub(1)));
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!("{}{rule}{rows}", row(&table.header))
}

/// What a table shows, below it, where a person would not guess it from its header.
fn legend(table: &Table) -> String {
    if table.numbers { format!("\n{}.\n", table.caption) } else { String::new() }
}

fn latex(table: &Table, label: &str) -> String {
    let row = |cells: &[String]| {
        let cell = |(index, cell): (usize, &String)| {
            // Columns of prose, not stretched to their width.
            let ragged = if (index == 0) == table.numbers { "\\raggedright " } else { "" };
            format!("{ragged}{}", latex_text(cell))
        };
        let cells: Vec<String> = cells.iter().enumerate().map(cell).collect();
        format!("    {} \\tabularnewline\n", cells.join(" & "))
    };
    // A line of prose is broken, a number is not.
    let columns = match table.numbers {
        true => format!("p{{0.18\\linewidth}}{}", "r".repeat(table.header.len().saturating_sub(1))),
        false => "lp{0.38\\linewidth}p{0.38\\linewidth}".to_string(),
    };
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!(
        "\\begin{{table}}\n  \\centering\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n  \\caption{{{}}}\n  \\label{{{label}}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n{}    \\midrule\n{rows}    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n",
        latex_text(&table.caption),
        row(&table.header),
    )
}

/// Text as LaTeX sets it: special characters escaped, the symbols of this program's texts as
/// mathematics.
fn latex_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => out.extend(['\\', c]),
            '<' | '>' => out.extend(['$', c, '$']),
            // A hyphen within a word stays one.
            '-' if !out.ends_with(|before: char| before.is_alphanumeric()) => out.push_str("$-$"),
            _ => match SYMBOLS.iter().find(|(symbol, _)| *symbol == c) {
                Some((_, command)) => out.push_str(&format!("${command}$")),
                None => out.push(c),
            },
        }
    }
    out
}

/// Letters and signs outside ASCII that names, titles and claims contain.
const SYMBOLS: [(char, &str); 12] = [
    ('±', "\\pm"),
    ('−', "-"),
    ('·', "\\cdot"),
    ('×', "\\times"),
    ('√', "\\surd"),
    ('‖', "\\|"),
    ('η', "\\eta"),
    ('θ', "\\theta"),
    ('←', "\\leftarrow"),
    ('≥', "\\ge"),
    ('≤', "\\le"),
    ('′', "'"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            caption: "50 % & more".into(),
            header: vec!["arm".into(), "std(z/‖z‖)·√d".into()],
            rows: vec![vec!["a|b_1".into(), "-0.5 ± 0.1".into()], vec!["cross-entropy".into(), "-".into()]],
            numbers: true,
        }
    }

    #[test]
    fn markdown_escapes_the_bar_and_aligns_numbers() {
        let text = "| arm | std(z/‖z‖)·√d |\n|---|---:|\n| a\\|b_1 | -0.5 ± 0.1 |\n| cross-entropy | - |\n";
        assert_eq!(markdown(&table()), text);
    }

    #[test]
    fn latex_escapes_what_is_special_and_sets_symbols_as_mathematics() {
        let text = latex(&table(), "tab:x-0");
        assert!(text.contains("\\caption{50 \\% \\& more}"), "{text}");
        assert!(text.contains("arm & std(z/$\\|$z$\\|$)$\\cdot$$\\surd$d \\tabularnewline"), "{text}");
        assert!(text.contains("a|b\\_1 & $-$0.5 $\\pm$ 0.1 \\tabularnewline"), "{text}");
        assert!(text.contains("cross-entropy & $-$ \\tabularnewline"), "{text}");
        assert!(
            text.contains("\\begin{tabular}{p{0.18\\linewidth}r}") && text.contains("\\bottomrule"),
            "{text}"
        );
    }
}
