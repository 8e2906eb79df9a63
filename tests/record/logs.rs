//! metrics.csv and TensorBoard events.

use super::*;
use simsiam_em::Error;
use simsiam_em::record::{EVENTS_PREFIX, read_metrics};
use std::path::PathBuf;

fn events_file(path: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
    let named = |p: &PathBuf| p.file_name().expect("a name").to_string_lossy().starts_with(EVENTS_PREFIX);
    entries.find(named).expect("an events file")
}

#[test]
fn rows_are_read_back_with_their_bits_and_gaps() {
    let folder = temporary();
    let dir = open(folder.path());
    let mut logs = dir.metrics(&COLUMNS).expect("logs");
    logs.row(0, 0.0, 0, 0.1234, &[("val/knn_top1", 12.5)]).expect("a row");
    logs.row(10, 0.1 + 0.2, 640, 1.0, &[("train/loss", -1.0 / 3.0)]).expect("a row");
    logs.row(20, 1.0, 1280, 2.0, &[("train/loss", f64::NAN), ("val/knn_top1", 50.0)]).expect("a row");
    let file = folder.path().join("metrics.csv");
    let text = std::fs::read_to_string(&file).expect("text");
    assert_eq!(text.lines().next(), Some("step,epoch,samples,wall_s,train/loss,val/knn_top1"));
    assert_eq!(text.lines().nth(1), Some("0,0,0,0.123,,12.5"));
    let table = read_metrics(&file).expect("readable");
    assert_eq!(table.rows(), 3);
    assert_eq!(table.column("val/knn_top1"), Some(&[Some(12.5), None, Some(50.0)][..]));
    assert_eq!(table.points("epoch", "val/knn_top1"), [(0.0, 12.5), (1.0, 50.0)]);
    assert_eq!(table.column("epoch").expect("a column")[1], Some(0.1 + 0.2));
    assert_eq!((table.last("val/knn_top1"), table.largest("train/loss")), (Some(50.0), Some(-1.0 / 3.0)));
    assert!(table.last("train/loss").is_some_and(f64::is_nan));
    assert_eq!(table.column("nothing"), None);
}

#[test]
fn a_column_that_was_not_announced_is_a_defect_and_writes_nothing() {
    let folder = temporary();
    let mut logs = open(folder.path()).metrics(&COLUMNS).expect("logs");
    let before = std::fs::read(folder.path().join("metrics.csv")).expect("bytes");
    let refused = logs.row(1, 1.0, 1, 1.0, &[("train/los", 1.0)]).expect_err("unknown");
    assert!(refused.to_string().contains("'train/los'"), "{refused}");
    assert_eq!(std::fs::read(folder.path().join("metrics.csv")).expect("bytes"), before);
}

#[test]
fn damaged_tables_are_errors_that_name_file_and_line() {
    let folder = temporary();
    let file = folder.path().join("metrics.csv");
    let cases: [(&[u8], &str); 6] = [
        (b"step,loss\n1,0.5\n2,o.4\n", "line 3: 'o.4' in column loss"),
        (b"step,loss\n1,0.5,7\n", "line 2: 3 cells where the header has 2"),
        (b"step,loss\n\n", "line 2: 1 cells"),
        (b"step,step\n", "line 1: the column 'step'"),
        (b"step,loss\n1,2\n\xff,3\n", "line 3: not a text"),
        (b"", "line 1: no header"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&file, bytes).expect("written");
        let refused = read_metrics(&file).expect_err(expected);
        assert!(matches!(refused, Error::Data { ref path, .. } if *path == file), "{refused}");
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    std::fs::write(&file, "step,loss\n1,0.5\n2,0.4").expect("written");
    let table = read_metrics(&file).expect("a row that is being written is no damage");
    assert_eq!(table.rows(), 1);
    let missing = read_metrics(&folder.path().join("none.csv")).expect_err("missing");
    assert!(missing.to_string().contains("none.csv: there is no such file"), "{missing}");
}

#[test]
fn other_columns_than_the_files_are_refused() {
    let folder = temporary();
    let dir = open(folder.path());
    drop(dir.metrics(&COLUMNS).expect("logs"));
    let refused = dir.metrics(&["train/loss"]).expect_err("other columns");
    assert!(matches!(refused, Error::Data { .. }), "{refused}");
}

/// The framing is checked by the unit tests' checksums; here: the records follow each other without
/// a gap, begin with the version and hold tag and number.
#[test]
fn events_are_whole_records_with_tag_and_number() {
    let folder = temporary();
    let mut logs = open(folder.path()).metrics(&COLUMNS).expect("logs");
    logs.row(300, 1.0, 640, 1.0, &[("train/loss", -0.5)]).expect("a row");
    logs.ended(300, false).expect("an end");
    drop(logs);
    let bytes = std::fs::read(events_file(folder.path())).expect("bytes");
    let (mut at, mut records) = (0, Vec::new());
    while at < bytes.len() {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
        records.push(&bytes[at + 12..at + 12 + len]);
        at += 16 + len;
    }
    assert_eq!(at, bytes.len());
    assert_eq!(records.len(), 4);
    assert_eq!(&records[0][9..], b"\x1a\x0dbrain.Event:2");
    let mut expected = b"\x10\xac\x02\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15".to_vec();
    expected.extend((-0.5f32).to_le_bytes());
    assert_eq!(&records[2][9..], expected);
    // What tensorboard.rs has read by TensorBoard itself.
    for (record, tag) in [(1, "_hparams_/session_start_info"), (3, "_hparams_/session_end_info")] {
        assert!(records[record].windows(tag.len()).any(|part| part == tag.as_bytes()), "{tag}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_under_the_name_of_a_log_is_refused_and_the_table_stays_as_it_is() {
    let folder = temporary();
    let dir = open(folder.path());
    std::os::unix::fs::symlink("/dev/full", folder.path().join("metrics.csv")).expect("a link");
    let refused = dir.metrics(&COLUMNS).expect_err("a device");
    let message = refused.to_string();
    assert!(matches!(refused, Error::Data { .. }), "{message}");
    assert!(message.contains("metrics.csv") && message.contains("a device"), "{message}");

    std::fs::remove_file(folder.path().join("metrics.csv")).expect("removed");
    let mut logs = dir.metrics(&COLUMNS).expect("logs");
    row(&mut logs, 1, 0.5);
    drop(logs);
    let kept = std::fs::read(folder.path().join("metrics.csv")).expect("bytes");
    let events = events_file(folder.path());
    std::fs::remove_file(&events).expect("removed");
    std::os::unix::fs::symlink("/dev/full", &events).expect("a link");
    assert!(dir.metrics(&COLUMNS).is_err(), "a device in the place of the events");
    assert_eq!(std::fs::read(folder.path().join("metrics.csv")).expect("bytes"), kept);
}
