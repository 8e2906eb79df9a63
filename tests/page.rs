//! `sim report`: the page and the tables, made from what a study with a formula in place of
//! training leaves.

use crate::support::output as sim;
use simsiam_em::report::Figure;
use simsiam_em::report::{Chapter, Format, page, text};
use simsiam_em::study::Study;
use std::path::Path;
use std::process::{Command, Output};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs every study and returns the folder with `runs/`.
fn suite() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let run = sim(folder.path(), &["run", "all", "--scale", "mock", "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    folder
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Rows of all claims.csv files below `runs`.
fn claims(runs: &Path) -> usize {
    let files = std::fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path().join("claims.csv"));
    files
        .filter(|file| file.is_file())
        .map(|file| csv::Reader::from_path(file).unwrap().records().count())
        .sum()
}

/// Panels of all figures of all studies in `runs` that are drawn.
fn panels(runs: &Path) -> usize {
    let folders = std::fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path().join("figures"));
    let files = folders
        .filter(|folder| folder.is_dir())
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    let csv = files.filter(|file| file.extension().is_some_and(|extension| extension == "csv"));
    csv.map(|file| Figure::from_csv(&file).unwrap().drawn().len()).sum()
}

fn occurrences(text: &str, of: &str) -> usize {
    text.matches(of).count()
}

#[test]
fn the_page_holds_every_claim_and_needs_nothing_else() {
    let folder = suite();
    let runs = folder.path().join("runs");
    let page = read(&runs.join("report.html"));
    assert_eq!(occurrences(&page, "<span class=\"verdict "), claims(&runs));
    let studies = Study::all().unwrap().len();
    assert!(page.contains(&format!("{} claims of {studies} studies", claims(&runs))));
    // Names of vocabularies are the only addresses.
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http") && !page.contains("<script") && !page.contains("@import"));
    assert_eq!(occurrences(&page, "<svg role=\"img\""), panels(&runs), "every panel of every figure");
    assert!(
        page.contains("<title>SimSiam, epoch 3: 80.0 (79.9 to 80.1)</title>"),
        "a median tells its number"
    );
    assert!(page.contains("<title>SimSiam, seed 1, the worst: 79.9</title>"), "and so does a seed");
    assert!(page.contains("<td>80.0 (79.9 to 80.1), worst seed 1</td>"), "the table names the worst seed");
    assert!(page.contains("Thick lines: medians of 2 seeds, which are the thin lines."));
    let captions = page.split("<figcaption>").skip(1).filter_map(|part| part.split("</figcaption>").next());
    assert!(captions.clone().count() > 20 && captions.into_iter().all(|text| !text.contains("95 %")));
    assert!(page.contains("id=\"multistep\"") && page.contains("href=\"#multistep\""));
    let order: Vec<usize> = ["simsiam", "stopgrad", "symmetry", "membank"]
        .map(|study| page.find(&format!("<section id=\"{study}\"")).unwrap())
        .into();
    assert!(order.is_sorted(), "studies stand in the paper's order");
    let again = sim(folder.path(), &["report", "runs", "--out", "again.html"]);
    assert_eq!(said(&again), "again.html\n");
    assert_eq!(read(&folder.path().join("again.html")), page, "made from files alone, the same bytes");
}

#[test]
fn a_browser_shows_it_without_complaint() {
    let Some(browser) = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
    else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let folder = suite();
    let page = folder.path().join("runs/report.html");
    let shown = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
    assert!(!log.contains("CONSOLE"), "{log}");
    assert_eq!(occurrences(&dom, "<span class=\"verdict "), claims(&folder.path().join("runs")));
    assert_eq!(
        occurrences(&dom, "</svg>"),
        occurrences(&read(&page), "</svg>"),
        "every drawing was understood"
    );
}

#[test]
fn what_a_study_says_of_itself_is_text_and_not_markup() {
    let folder = tempfile::tempdir().unwrap();
    let study = "title = \"<b>A & B</b>\"\nquestion = \"a | b_1 \\\\ 50 %?\"\nbase = \"simsiam\"\n[[arm]]\n\
                 name = \"x\"\ntitle = \"<script>\"\n[[claim]]\ntext = \"\\\"x\\\" < 1\"\nmetric = \"train/loss\"\n\
                 arm = \"x\"\nis = \"at most\"\nvalue = 1.0\n";
    std::fs::write(folder.path().join("mine.toml"), study).unwrap();
    let run = sim(folder.path(), &["run", "./mine.toml", "--scale", "mock", "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    let chapter = || vec![Chapter::read(&folder.path().join("runs/mine")).unwrap()];
    let html = page(&chapter()).unwrap();
    assert!(!html.contains("<b>") && !html.contains("<script>"), "{html}");
    assert!(
        html.contains("<h1>&lt;b&gt;A &amp; B&lt;/b&gt;</h1>") && html.contains("&lt;script&gt;, epoch 3")
    );
    assert!(text(&chapter(), Format::Latex).contains("$<$b$>$A \\& B$<$/b$>$"));
}

#[test]
fn one_study_reported_twice_keeps_its_places_apart() {
    let folder = tempfile::tempdir().unwrap();
    for (out, k) in [("a", "10"), ("b", "7")] {
        let run = sim(folder.path(), &["run", "multistep", "--k", k, "--scale", "mock", "-q", "--out", out]);
        assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    }
    let report = sim(folder.path(), &["report", "a", "b/multistep"]);
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    let page = read(&folder.path().join("report.html"));
    for (id, command) in [("multistep-1", "--k 10"), ("multistep-2", "--k 7")] {
        assert_eq!(occurrences(&page, &format!("<section id=\"{id}\"")), 1);
        assert!(
            page.contains(&format!("href=\"#{id}\">Multi-step alternation: sim run multistep {command}"))
        );
    }
}

#[test]
fn tables_for_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let run = sim(folder.path(), &["run", "multistep", "--scale", "mock", "-q"]);
    assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    for (format, name) in [("md", "multistep.md"), ("latex", "multistep.tex")] {
        let table = sim(folder.path(), &["report", "runs/multistep", "--format", format]);
        assert_eq!(table.status.code(), Some(0), "{}", said(&table));
        super::mock::assert_snapshot(name, &said(&table));
    }
}

#[test]
fn what_cannot_be_reported_is_said_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let report = |path: &str| {
        let report = sim(folder.path(), &["report", path]);
        assert_eq!(report.status.code(), Some(4), "{}", said(&report));
        assert_eq!(report.stdout, b"");
        said(&report)
    };
    assert!(report("nowhere").contains("nowhere: cannot be listed"));
    std::fs::create_dir_all(folder.path().join("runs/half")).unwrap();
    assert!(report("runs").contains("holds no answer.json, nor do the folders in it"));
    let answer = folder.path().join("runs/half/answer.json");
    std::fs::write(&answer, "{\"schema\": 1, \"study\":").unwrap();
    assert!(report("runs").contains("answer.json: damaged"));
    std::fs::write(&answer, "{\"schema\": 99}").unwrap();
    assert!(report("runs/half").contains("of schema 99, which a newer sim reads"));
    assert!(!folder.path().join("report.html").exists(), "nothing half done is left");
}

/// Answers of earlier versions judged by intervals of means and have neither spreads nor evidence.
#[test]
fn answers_of_earlier_versions_are_shown_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let number = |mean: f64, half: f64| serde_json::json!({"mean": mean, "half_width_95": half, "seeds": 3});
    let runs = [0, 1, 2].map(|seed| serde_json::json!({"seed": seed, "end": "finished", "wall_s": 1.0}));
    let answer = serde_json::json!({
        "schema": 1, "study": "s", "title": "t", "question": "q?", "command": "sim run s", "scale": "laptop",
        "sim": "0.1.0", "paper": null, "seeds": [0, 1, 2], "recipe": {}, "differences": {}, "machines": [],
        "metrics": [{"name": "val/knn_top1", "title": "kNN top-1 (%)", "decimals": 1}],
        "arms": [{"arm": "a", "title": "A", "paper": null, "metrics": {"val/knn_top1": number(91.93, 26.11)},
            "runs": runs}],
        "claims": [{"claim": "it learns", "metric": "val/knn_top1", "arm": "a", "asked": "at least 5",
            "verdict": "reproduced", "decimals": 1, "is_difference": false, "effect": number(91.93, 26.11),
            "why": null}],
    });
    std::fs::write(folder.path().join("answer.json"), answer.to_string()).unwrap();
    let chapters = [Chapter::read(folder.path()).unwrap()];
    let text = text(&chapters, Format::Markdown);
    assert!(text.contains("| A | 91.9 ± 26.1 |"), "{text}");
    assert!(
        text.contains("| reproduced | it learns | val/knn_top1 of a at least 5: 91.9 ± 26.1 |"),
        "{text}"
    );
    let page = page(&chapters).unwrap();
    assert!(page.contains("3 seeds, mean ± 95 % interval of the mean"), "{page}");
    assert!(page.contains("An earlier version judged: reproduced where the whole 95 % interval"), "{page}");
    assert!(!page.contains("E = 40"), "nor were they judged by evidence: {page}");
}

#[test]
fn the_committed_answers_are_read() {
    let plots = Path::new(env!("CARGO_MANIFEST_DIR")).join("plots");
    let folders = simsiam_em::report::find(&plots).unwrap();
    let chapters: Vec<Chapter> = folders.iter().map(|folder| Chapter::read(folder).unwrap()).collect();
    assert!(!chapters.is_empty());
    for Chapter { answer, .. } in &chapters {
        let cells = answer.table().1.concat().join(" ");
        assert!(!cells.contains("not a number"), "{}: {cells}", answer.study);
        let told =
            |claim: &simsiam_em::record::AnswerClaim| claim.effect.is_none() || claim.detail().contains(": ");
        assert!(answer.claims.iter().all(told), "{}", answer.study);
    }
}
