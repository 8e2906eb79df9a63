//! Text tables that fit a width: their cells stand on one line each where there is room, and are
//! broken between words where there is none.

use console::measure_text_width;

/// Spaces between columns where there is room, and where there is none.
const GAPS: [usize; 2] = [3, 2];
/// Names in the first column are cut where they have longer words than this: paths, or keys that
/// are set.
const LONGEST_WORD: usize = 20;
/// After these a long name is cut rather than elsewhere: between folders, else within a name.
const JOINTS: [&[char]; 2] = [&['/'], &['-', '_', '=', ',', ':']];
/// Further lines of a name begin so much to the right of its first.
const HANGING: usize = 1;

/// Rows of equal length, the first of which is the header, as lines of at most `width` characters;
/// the first column is aligned to the left, the others to the right.
///
/// A table that is too wide has its header and names broken between words. If that is not enough,
/// an interval stands below its median. If that is not enough either, there are several tables,
/// each with the first column and with some of the others. A single column that is still too wide
/// goes beyond `width`.
pub fn table(rows: &[Vec<String>], width: usize) -> Vec<String> {
    let columns: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).collect();
    if let Some(layout) = fitting(rows, &columns, width) {
        return layout.lines(rows);
    }
    let [first, left @ ..] = columns.as_slice() else { return Vec::new() };
    let (mut left, mut lines) = (left, Vec::new());
    loop {
        let taking = |count: usize| [&[*first], &left[..count]].concat();
        let fit = |count: &usize| fitting(rows, &taking(*count), width);
        let one = left.len().min(1);
        let count = (one..=left.len()).take_while(|count| fit(count).is_some()).last().unwrap_or(one);
        let layout = fit(&count).unwrap_or_else(|| Layout::narrowest(rows, &taking(count), false));
        lines.extend(layout.lines(rows));
        left = &left[count..];
        if left.is_empty() {
            return lines;
        }
        lines.push(String::new());
    }
}

/// The layout of some columns with the fewest lines.
fn fitting(rows: &[Vec<String>], columns: &[usize], width: usize) -> Option<Layout> {
    let whole = Layout::whole(rows, columns);
    if whole.width() <= width {
        return Some(whole);
    }
    let broken = [true, false].into_iter().filter_map(|bodies| Layout::broken(rows, columns, width, bodies));
    broken.min_by_key(|layout| layout.lines(rows).len())
}

/// Which columns a table has, and how wide they are.
struct Layout {
    columns: Vec<(usize, usize)>,
    gap: usize,
}

impl Layout {
    /// Every cell on one line.
    fn whole(rows: &[Vec<String>], columns: &[usize]) -> Layout {
        let width = |column: usize| cells(rows, column).map(measure_text_width).max().unwrap_or(0);
        Layout { columns: columns.iter().map(|&column| (column, width(column))).collect(), gap: GAPS[0] }
    }

    /// Every cell broken where it can be; below the header only those of the first column where
    /// `bodies` are whole.
    fn narrowest(rows: &[Vec<String>], columns: &[usize], bodies: bool) -> Layout {
        let least = |column: usize| {
            let of = |(row, cell): (usize, &str)| match (column, row) {
                (0, _) => longest_word(cell, true).min(leading(cell) + LONGEST_WORD),
                (_, 1..) if bodies => measure_text_width(cell),
                _ => longest_word(cell, false),
            };
            cells(rows, column).enumerate().map(of).max().unwrap_or(0)
        };
        Layout { columns: columns.iter().map(|&column| (column, least(column))).collect(), gap: GAPS[1] }
    }

    /// Cells broken between words, so that the table has at most `width`; none where words are too
    /// long.
    fn broken(rows: &[Vec<String>], columns: &[usize], width: usize, bodies: bool) -> Option<Layout> {
        let mut layout = Layout::narrowest(rows, columns, bodies);
        for _ in layout.width()..width {
            let Some(tallest) = layout.tallest(rows, bodies) else { break };
            layout.columns[tallest].1 += 1;
        }
        for (column, width) in &mut layout.columns {
            let lines = |cell| broken(cell, *width, *column == 0);
            let widest = cells(rows, *column).flat_map(lines).map(|line| measure_text_width(&line)).max();
            *width = widest.unwrap_or(0);
        }
        (layout.width() <= width).then_some(layout)
    }

    /// The place of the column that has the most lines in a row; none where all have one. Columns
    /// whose `bodies` are broken may have two, so that all intervals stand below their medians.
    fn tallest(&self, rows: &[Vec<String>], bodies: bool) -> Option<usize> {
        let height = |&(column, width): &(usize, usize)| {
            cells(rows, column).map(|cell| broken(cell, width, column == 0).len()).max().unwrap_or(0)
        };
        let heights = self.columns.iter().map(height).enumerate();
        let enough = |place: usize| if bodies || place == 0 { 1 } else { 2 };
        let tall = heights.filter(|(place, height)| *height > enough(*place));
        // Of several the first.
        tall.rev().max_by_key(|(_, height)| *height).map(|(place, _)| place)
    }

    /// Characters of a line.
    fn width(&self) -> usize {
        let widths: usize = self.columns.iter().map(|(_, width)| width).sum();
        widths + self.gap * self.columns.len().saturating_sub(1)
    }

    /// The table's lines. Those of a header stand at the bottom of its row, others at the top.
    fn lines(&self, rows: &[Vec<String>]) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let cell = |&(column, width): &(usize, usize)| {
                broken(row.get(column).map_or("", String::as_str), width, column == 0)
            };
            let parts: Vec<Vec<String>> = self.columns.iter().map(cell).collect();
            let height = parts.iter().map(Vec::len).max().unwrap_or(0);
            for at in 0..height {
                let texts = parts.iter().zip(&self.columns).map(|(part, &(column, width))| {
                    let above = if index == 0 { height - part.len() } else { 0 };
                    let text = at.checked_sub(above).and_then(|at| part.get(at)).map_or("", String::as_str);
                    let space = " ".repeat(width.saturating_sub(measure_text_width(text)));
                    if column == 0 { format!("{text}{space}") } else { format!("{space}{text}") }
                });
                let line = texts.collect::<Vec<_>>().join(&" ".repeat(self.gap));
                lines.push(line.trim_end().to_string());
            }
        }
        lines
    }
}

/// The cells of a column, the header's first.
fn cells(rows: &[Vec<String>], column: usize) -> impl Iterator<Item = &str> {
    rows.iter().map(move |row| row.get(column).map_or("", String::as_str))
}

/// Spaces with which a cell begins.
fn leading(cell: &str) -> usize {
    cell.len() - cell.trim_start_matches(' ').len()
}

/// The parts of a cell between which it may be broken: an interval in brackets is one, and so is a
/// mean with what stands behind ±. The first has the spaces before it.
fn words(cell: &str) -> Vec<&str> {
    let begin = leading(cell);
    let (mut words, mut from, mut open) = (Vec::new(), 0, 0usize);
    for (at, character) in cell.char_indices().skip(begin) {
        match character {
            '[' | '(' => open += 1,
            ']' | ')' => open = open.saturating_sub(1),
            ' ' if open == 0 && !cell[..at].ends_with('±') && !cell[at + 1..].starts_with('±') => {
                words.push(&cell[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    words.push(&cell[from..]);
    words
}

/// The narrowest that a cell can be without a word being cut; further lines of a name `hang`.
fn longest_word(cell: &str, hang: bool) -> usize {
    let indent = |index: usize| if hang && index > 0 { leading(cell) + HANGING } else { 0 };
    let width = |(index, word): (usize, &str)| indent(index) + measure_text_width(word);
    words(cell).into_iter().enumerate().map(width).max().unwrap_or(0)
}

/// A cell as lines of at most `width`; further lines of a name `hang`.
fn broken(cell: &str, width: usize, hang: bool) -> Vec<String> {
    if measure_text_width(cell) <= width {
        return vec![cell.to_string()];
    }
    let indent = if hang { leading(cell) + HANGING } else { 0 };
    wrapped(words(cell), indent, width)
}

/// `text` as lines of at most `width` characters, of which all but the first begin with `indent`
/// spaces.
pub fn hanging(text: &str, indent: usize, width: usize) -> Vec<String> {
    // Alignment within the line stays: only where it is broken spaces go.
    let begin = leading(text);
    let mut from = 0;
    let mut words: Vec<&str> = Vec::new();
    for (at, _) in text.match_indices(' ').filter(|(at, _)| *at >= begin) {
        words.push(&text[from..at]);
        from = at + 1;
    }
    words.push(&text[from..]);
    wrapped(words, indent, width)
}

fn wrapped(words: Vec<&str>, indent: usize, width: usize) -> Vec<String> {
    let indent = indent.min(width / 2);
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let mut word = word;
        if let Some(last) = lines.last_mut()
            && measure_text_width(last) + 1 + measure_text_width(word) <= width
        {
            last.push(' ');
            last.push_str(word);
            continue;
        }
        loop {
            let indent = if lines.is_empty() { 0 } else { indent };
            // A line has at least one character, however narrow it is.
            let room = width.saturating_sub(indent).max(1);
            let (part, rest) = cut(word, room);
            lines.push(format!("{}{part}", " ".repeat(indent)));
            if rest.is_empty() {
                break;
            }
            word = rest;
        }
    }
    lines
}

/// What of `word` fits into `room`, and the rest: cut after a joint where there is one.
fn cut(word: &str, room: usize) -> (&str, &str) {
    let end = |(at, character): (usize, char)| at + character.len_utf8();
    let ends: Vec<usize> =
        word.char_indices().map(end).take_while(|end| measure_text_width(&word[..*end]) <= room).collect();
    let most = ends.last().copied().or_else(|| word.char_indices().map(end).next()).unwrap_or(0);
    if most == word.len() {
        return (word, "");
    }
    let after = |joints: &&[char]| word[..most].rfind(*joints).map(|at| at + 1);
    let joint = JOINTS.iter().filter_map(after).find(|at| *at > leading(word));
    word.split_at(joint.unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| cell.to_string()).collect()).collect()
    }

    #[test]
    fn columns_align_by_characters() {
        let rows = rows(&[&["arm", "√d"], &["k", "1.25 ± 0"], &["箱", "2"]]);
        assert_eq!(table(&rows, 80), ["arm         √d", "k     1.25 ± 0", "箱           2"]);
    }

    /// The widest table of the README.
    fn arms() -> Vec<Vec<String>> {
        rows(&[
            &["arm", "kNN top-1 (%)", "linear top-1 (%)", "std(z/‖z‖)·√d", "loss", "paper"],
            &[
                "SimSiam",
                "96.2 [93.4, 97.7]",
                "97.2 [96.1, 99.2]",
                "0.989 [0.974, 0.993]",
                "-0.936 [-0.929, -0.944]",
                "68.1",
            ],
            &[
                "m=0: no predictor, no moving average",
                "10.9 [6.9, 16.4]",
                "12.0 [8.0, 17.1]",
                "0.007 [0.004, 0.031]",
                "-0.853 [-0.774, -0.874]",
                "0.1",
            ],
        ])
    }

    #[test]
    fn an_interval_stands_below_its_median_where_both_have_no_room() {
        let expected = [
            "                kNN top-1  linear top-1",
            "arm                   (%)           (%)   std(z/‖z‖)·√d              loss  paper",
            "SimSiam              96.2          97.2           0.989            -0.936   68.1",
            "             [93.4, 97.7]  [96.1, 99.2]  [0.974, 0.993]  [-0.929, -0.944]",
            "m=0: no              10.9          12.0           0.007            -0.853    0.1",
            " predictor,   [6.9, 16.4]   [8.0, 17.1]  [0.004, 0.031]  [-0.774, -0.874]",
            " no moving",
            " average",
        ];
        assert_eq!(table(&arms(), 80), expected);
    }

    #[test]
    fn names_and_headers_are_broken_first() {
        let rows = rows(&[
            &["arm", "kNN top-1 (%)", "paper"],
            &["SimSiam", "96.2 [93.4, 97.7]", "68.1"],
            &["m=0: no predictor, no moving average", "10.9 [6.9, 16.4]", "0.1"],
        ]);
        let expected = [
            "arm                        kNN top-1 (%)  paper",
            "SimSiam                96.2 [93.4, 97.7]   68.1",
            "m=0: no predictor, no   10.9 [6.9, 16.4]    0.1",
            " moving average",
        ];
        assert_eq!(table(&rows, 48), expected);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut long = arms();
        long[2][0] = "encoder.precision=bf16,a/folder/of/runs/with_a_long_name/and-another".into();
        for rows in [arms(), long] {
            for width in 40..200 {
                let lines = table(&rows, width);
                let widest = lines.iter().map(|line| measure_text_width(line)).max();
                assert!(widest <= Some(width), "{width}:\n{}", lines.join("\n"));
                let said: String = lines.concat();
                for cell in rows.iter().flatten().flat_map(|cell| words(cell)) {
                    let cell: String = cell.chars().take(10).collect();
                    assert!(said.contains(&cell), "{width}: {cell} is missing in\n{}", lines.join("\n"));
                }
            }
        }
    }

    #[test]
    fn a_table_without_rows_or_columns_has_no_lines_to_break() {
        assert_eq!(table(&[], 10), Vec::<String>::new());
        assert_eq!(table(&rows(&[&["a name alone"]]), 7), ["a name", " alone"]);
    }

    #[test]
    fn prose_hangs() {
        let lines = hanging("reproduced    it learns as well as one", 14, 30);
        assert_eq!(lines, ["reproduced    it learns as", "              well as one"]);
        assert_eq!(hanging("", 14, 30), [""]);
        assert_eq!(hanging("  abcdefghijk", 4, 8), ["  abcdef", "    ghij", "    k"]);
    }
}
