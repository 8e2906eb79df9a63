//! Progress of the runs on stderr: one bar per run on a terminal, plain lines elsewhere.

use super::bar;
use super::collapse;
use super::printable::printable;
use crate::study::{Event, Job};
use crate::threads::lock;
use crate::train::{Ending, Progress};
use console::{Term, measure_text_width};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a command has told once and need not tell again.
#[derive(Default)]
pub struct Told(Mutex<BTreeSet<String>>);

impl Told {
    /// Whether `what` was not told before.
    pub fn is_news(&self, what: &str) -> bool {
        lock(&self.0).insert(what.to_string())
    }
}

/// Who tells a person, on stderr, of what happens to the runs of a command.
pub struct Watcher<'a> {
    jobs: &'a [Job],
    scale: Option<String>,
    quiet: bool,
    told: &'a Told,
    bars: Option<MultiProgress>,
    lines: Mutex<Lines>,
    width: usize,
    /// Whether there are several studies, so that runs are named with theirs.
    many: bool,
}

#[derive(Default)]
struct Lines {
    active: BTreeMap<usize, Line>,
    skipped: usize,
}

/// What is known of one run.
struct Line {
    bar: Option<ProgressBar>,
    begun: Instant,
    drawn: Instant,
    steps: u64,
    resumed_at: u64,
    loss: f64,
    /// std of z/‖z‖ times √d: of the batches in training, and of held-out images where it was
    /// measured.
    z_std: f64,
    held_out: Option<f64>,
    knn: Option<f64>,
    ap: Option<f64>,
    /// Whether this process saved a checkpoint.
    saved: bool,
}

impl<'a> Watcher<'a> {
    /// A watcher of `jobs` at `scale`, who is silent where `quiet`, and tells nothing again that
    /// was `told`.
    pub fn new(jobs: &'a [Job], scale: Option<String>, quiet: bool, told: &'a Told) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let many = jobs.windows(2).any(|pair| pair[0].study != pair[1].study);
        let width = jobs.iter().map(|job| measure_text_width(&name(job, many))).max().unwrap_or(0);
        Self { jobs, scale, quiet, told, bars, lines: Mutex::new(Lines::default()), width, many }
    }

    /// Takes note of an event.
    pub fn watch(&self, index: usize, event: &Event) {
        let Some(job) = self.jobs.get(index) else { return };
        let mut lines = lock(&self.lines);
        match event {
            Event::Skipped(_) => lines.skipped += 1,
            Event::Shared(twin) => {
                self.say(&format!("{}: the same run as {}, copied", self.name(job), twin.display()));
            }
            Event::Held => {
                self.say(&format!("{}: another sim process makes it; waiting for that", self.name(job)));
            }
            Event::Started => {
                lines.active.insert(index, self.line(job));
            }
            Event::Progress(progress) => {
                if let Some(line) = lines.active.get_mut(&index) {
                    self.progress(job, line, progress);
                }
            }
            Event::Ended(ending) => {
                let line = lines.active.remove(&index);
                if let Some(bar) = line.as_ref().and_then(|line| line.bar.as_ref()) {
                    bar.finish_and_clear();
                }
                let saved = line.as_ref().is_some_and(|line| line.saved || line.resumed_at > 0);
                let took = line.map_or(0, |line| line.begun.elapsed().as_secs());
                self.say(&match ending {
                    Ending::Finished => format!("{}: finished after {}", self.name(job), duration(took)),
                    Ending::Stopped if saved => {
                        format!("{}: stopped; its checkpoint is saved", self.name(job))
                    }
                    Ending::Stopped => {
                        format!("{}: stopped before there was anything to save", self.name(job))
                    }
                    Ending::Diverged { step } => {
                        return self.warn(&format!(
                            "{}: diverged, the loss of step {step} is not finite",
                            self.name(job)
                        ));
                    }
                });
            }
            Event::Failed(reason) => {
                if let Some(bar) = lines.active.remove(&index).and_then(|line| line.bar) {
                    bar.finish_and_clear();
                }
                match self.told.is_news(reason) {
                    true => self.warn(&format!("{}: {reason}", self.name(job))),
                    false => self.warn(&format!("{}: failed for the same reason", self.name(job))),
                }
            }
        }
    }

    fn name(&self, job: &Job) -> String {
        name(job, self.many)
    }

    /// How many runs had ended before.
    pub fn skipped(&self) -> usize {
        lock(&self.lines).skipped
    }

    fn line(&self, job: &Job) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(1));
            self.draw(&bar, job, &["preparing".into()]);
            bar
        });
        let now = Instant::now();
        Line {
            bar,
            begun: now,
            drawn: now,
            steps: 0,
            resumed_at: 0,
            loss: f64::NAN,
            z_std: f64::NAN,
            held_out: None,
            knn: None,
            ap: None,
            saved: false,
        }
    }

    /// Gives a bar its line, which fits the terminal as it is now.
    fn draw(&self, bar: &ProgressBar, job: &Job, parts: &[String]) {
        let width = Term::stderr().size_checked().map_or(bar::WIDTH, |(_, columns)| columns.into());
        let line = bar::fitted(&self.name(job), self.width, parts, width);
        if let Ok(style) = ProgressStyle::with_template(&line.template()) {
            bar.set_style(style.progress_chars("━╾ "));
        }
        bar.set_prefix(line.name);
        bar.set_message(line.message);
    }

    fn progress(&self, job: &Job, line: &mut Line, progress: &Progress) {
        match progress {
            Progress::Begun { steps, resumed_at } => {
                (line.steps, line.resumed_at, line.begun) = (*steps, *resumed_at, Instant::now());
                (line.loss, line.z_std, line.held_out, line.knn) = (f64::NAN, f64::NAN, None, None);
                if *resumed_at > 0 {
                    self.say(&format!("{}: goes on at step {resumed_at} of {steps}", self.name(job)));
                }
                if let Some(bar) = &line.bar {
                    bar.set_length(*steps);
                    bar.set_position(*resumed_at);
                }
            }
            Progress::Step { step, epoch, loss, z_std } => {
                (line.loss, line.z_std) = (*loss, *z_std);
                let Some(bar) = &line.bar else { return };
                if line.drawn.elapsed() > Duration::from_millis(100) || *step == line.steps {
                    line.drawn = Instant::now();
                    bar.set_position(*step);
                    self.draw(bar, job, &message(job, line, *step, *epoch));
                }
            }
            Progress::Measured { step, epoch, values } => {
                let value = |column| values.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
                line.knn = value("val/knn_top1").or(line.knn);
                line.ap = value("det/ap").or(line.ap);
                line.loss = value("train/loss").unwrap_or(line.loss);
                line.z_std = value("train/z_std").unwrap_or(line.z_std);
                line.held_out = value("val/z_std").or(line.held_out);
                let parts = message(job, line, *step, *epoch);
                match &line.bar {
                    Some(bar) => self.draw(bar, job, &parts),
                    None => self.say(&format!("{}: {}", self.name(job), parts.join("  "))),
                }
                if let Some(warning) = collapse::warning(job, self.scale.as_deref(), *step, values)
                    && self.told.is_news(&format!("collapse of {}/{}", job.study, job.arm))
                {
                    self.warn(&format!("{}: {warning}", self.name(job)));
                }
            }
            Progress::Saved { .. } => line.saved = true,
            Progress::Note(note) => self.warn(&format!("{}: {note}", self.name(job))),
        }
    }

    /// A line for those who want to follow.
    fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// A line that everyone should see.
    fn warn(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(printable(text))),
            None => super::note(text),
        }
    }
}

fn name(job: &Job, with_study: bool) -> String {
    let study = if with_study { format!("{}/", job.study) } else { String::new() };
    format!("{study}{} seed {}", job.arm, job.seed)
}

/// What is said beside a bar, as [`bar::fitted`] takes it.
fn message(job: &Job, line: &Line, step: u64, epoch: f64) -> Vec<String> {
    // Whatever comes before a detector has other epochs.
    let epochs = match job.recipe.transfer {
        Some(_) if step > 0 => (epoch * line.steps as f64 / step as f64).round(),
        _ => job.recipe.last_epoch().round(),
    };
    let mut parts = vec![format!("epoch {epoch:.1}/{epochs}")];
    if line.loss.is_finite() {
        parts.push(format!("loss {:.3}", line.loss));
    }
    match line.held_out {
        Some(held_out) => parts.push(format!("held-out std {held_out:.3}")),
        None if line.z_std.is_finite() => parts.push(format!("batch std {:.3}", line.z_std)),
        None => {}
    }
    parts.extend(line.knn.map(|knn| format!("kNN {knn:.1} %")));
    parts.extend(line.ap.map(|ap| format!("box AP {ap:.1}")));
    let (made, left) = (step.saturating_sub(line.resumed_at), line.steps.saturating_sub(step));
    if made > 0 && left > 0 {
        let seconds = line.begun.elapsed().as_secs_f64() / made as f64 * left as f64;
        parts.push(format!("{} left", duration(seconds as u64)));
    }
    parts
}

/// "12 s", "3 min 20 s", "2 h 5 min".
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
