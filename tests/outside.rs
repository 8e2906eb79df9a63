//! What comes from outside: files that people have, and files that would hang a program or fill its
//! memory.

use crate::fuzz::memory::most_during;
use crate::support::{data_config, jpeg_to_be_turned, picture, within};
use simsiam_em::data::{Dataset, Exif, decode, images_in};
use simsiam_em::record::read_metrics;
use simsiam_em::report::Figure;
use simsiam_em::study::Study;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

const SIM: &str = env!("CARGO_BIN_EXE_sim");
/// Enough for what ends at all.
const SECONDS: u64 = 60;

fn sim(args: &[&str]) -> Output {
    within(SECONDS, Command::new(SIM).args(args))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `sim`, which must end with `code` and say all of `words` on stderr.
fn ends(args: &[&str], code: i32, words: &[&str]) -> Output {
    let output = sim(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word}: {said}");
    }
    output
}

/// Cats and dogs, two of each in either half.
fn animals() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for class in ["train/cat", "train/dog", "test/cat", "test/dog"] {
        (0..2).for_each(|i| picture(&root.path().join(class).join(format!("{i}.png")), 50 * i));
    }
    root
}

fn folder(root: &Path) -> String {
    format!("folder:{}", root.display())
}

/// A .tar.gz of these entries: name, kind, and length of zeros.
fn archive(path: &Path, entries: &[(&str, tar::EntryType, u64)]) {
    let file = std::fs::File::create(path).unwrap();
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for (name, kind, length) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(*length);
        header.set_path(name).unwrap();
        header.set_cksum();
        tar.append(&header, std::io::Read::take(std::io::repeat(0), *length)).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

#[test]
fn an_archive_that_unpacks_to_more_than_the_data_set_is_refused_within_its_memory() {
    use tar::EntryType::{GNULongName, Regular, XHeader};
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bomb.tar.gz");
    let cases: [&[(&str, tar::EntryType, u64)]; 3] = [
        &[("long", GNULongName, 400 << 20)],
        &[("long", XHeader, 400 << 20)],
        &[("data_batch_1.bin", Regular, 159 << 20), ("data_batch_2.bin", Regular, 159 << 20)],
    ];
    for entries in cases {
        archive(&path, entries);
        assert!(path.metadata().unwrap().len() < 4 << 20);
        let held = most_during(4 << 30, || {
            let refused = Dataset::open(&data_config(&format!("cifar10:{}", path.display()))).unwrap_err();
            assert_eq!(refused.exit_code(), 4);
            assert!(refused.to_string().contains("more than 256 MiB"), "{refused}");
        });
        assert!(held < 640 << 20, "{held} bytes held for {entries:?}");
    }
}

#[test]
fn a_damaged_python_version_and_the_other_cifar_are_told() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cifar-10-python.tar.gz");
    archive(&path, &[("cifar-10-batches-py/data_batch_1", tar::EntryType::Regular, 9)]);
    let words = ["data_batch_1 cannot be read", "pickle"];
    ends(&["data", "check", "--data", &format!("cifar10:{}", path.display())], 4, &words);
    let inner = root.path().join("cifar-10-batches-py");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("data_batch_1"), "pickle").unwrap();
    std::fs::write(inner.join("test_batch"), "pickle").unwrap();
    for place in [root.path(), &inner] {
        ends(&["data", "check", "--data", &format!("cifar10:{}", place.display())], 4, &words);
    }
    let other = root.path().join("other.tar.gz");
    archive(&other, &[("cifar-100-binary/train.bin", tar::EntryType::Regular, 3074)]);
    ends(
        &["data", "check", "--data", &format!("cifar10:{}", other.display())],
        4,
        &["CIFAR-100", "cifar100:PATH"],
    );
}

/// A PNG with a chunk that holds `unpacked` bytes of zeros, packed.
fn png_with_packed(name: &[u8; 4], head: &[u8], unpacked: usize) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(8, 8).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut packed = flate2::write::ZlibEncoder::new(head.to_vec(), flate2::Compression::best());
    packed.write_all(&vec![0; unpacked]).unwrap();
    let data = packed.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(&data);
    let bytes = bytes.into_inner();
    let length = (data.len() as u32).to_be_bytes();
    [&bytes[..33], &length, name, &data, &crc.sum().to_be_bytes(), &bytes[33..]].concat()
}

#[test]
fn packed_chunks_of_a_png_are_not_unpacked() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.png");
    for (name, head) in [(b"iCCP", &b"icc\0\0"[..]), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\x01\0\0\0")] {
        std::fs::write(&path, png_with_packed(name, head, 64 << 20)).unwrap();
        let held = most_during(4 << 30, || assert_eq!(decode(&path, Exif::Ignored).unwrap().height, 8));
        assert!(held < 1 << 20, "{held} bytes held");
    }
}

/// Of a file of a few hundred bytes whose header claims as many pixels as are read at all.
#[test]
fn a_header_that_claims_the_most_pixels_is_held_within_a_gigabyte() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.jpg");
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(16, 16).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let mut jpeg = jpeg.into_inner();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    let mut claim = |progressive: bool, height: u16, width: u16| {
        jpeg[frame + 1] = if progressive { 0xc2 } else { 0xc0 };
        jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        std::fs::write(&path, &jpeg).unwrap();
        let mut ended = None;
        let held = most_during(4 << 30, || ended = Some(decode(&path, Exif::Ignored).map(drop)));
        assert!(held < 1 << 30, "{held} bytes held");
        ended.unwrap()
    };
    let _ = claim(true, 9_400, 9_400);
    assert!(claim(false, 16_000, 16_000).unwrap_err().to_string().contains("too many"));
    assert!(claim(false, 10, 65_000).is_err());
}

#[cfg(unix)]
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_an_image_is_refused_or_skipped() {
    let root = animals();
    pipe(&root.path().join("train/cat/2.png"));
    let data = folder(root.path());
    ends(&["data", "check", "--data", &data], 4, &["2.png", "a pipe", "--skip-bad"]);
    let output = ends(&["data", "check", "--data", &data, "--skip-bad"], 0, &["2.png"]);
    assert!(text(&output.stdout).contains("1 file skipped"));
}

#[cfg(unix)]
#[test]
fn links_between_folders_end_and_give_each_image_once() {
    let root = animals();
    for name in ["a", "b"] {
        std::os::unix::fs::symlink(".", root.path().join(name)).unwrap();
    }
    assert_eq!(images_in(root.path()).unwrap().len(), 8);
}

#[cfg(unix)]
#[test]
fn a_study_that_is_no_file_or_no_text_is_a_mistake_in_usage() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine.toml");
    let mine = path.display().to_string();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    ends(&["run", &mine], 2, &["mine.toml", "a device"]);
    std::fs::remove_file(&path).unwrap();
    pipe(&path);
    ends(&["show", &mine], 2, &["mine.toml", "a pipe"]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"title = \"ein\"\nquestion = \"Gr\xf6\xdfe\"\n").unwrap();
    ends(&["run", &mine], 2, &["mine.toml", "line 2", "UTF-8"]);
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    ends(&["run", &mine], 2, &["mine.toml", "longer than 1 MiB"]);
    let nested =
        format!("title = \"x\"\nquestion = \"?\"\nx = {}{}", "}".repeat(1000), "{a=".repeat(100_000));
    std::fs::write(&path, nested).unwrap();
    ends(&["run", &mine], 2, &["mine.toml", "nested too deeply"]);
}

#[test]
fn the_mark_that_spreadsheets_and_editors_write_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let marked = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        path
    };
    let study = marked("mine.toml", "title = \"Mine\"\nquestion = \"?\"\nbase = \"simsiam\"\n");
    assert_eq!(Study::find(&study.display().to_string()).unwrap().head.title, "Mine");
    let metrics = marked("metrics.csv", "step,loss\n1,0.5\n");
    assert_eq!(read_metrics(&metrics).unwrap().last("loss"), Some(0.5));
    let head = r##"# {"title":"t","caption":"c","arms":[["a","a"]],"panels":[{"name":"p","x":"x","y":"y","style":"curves","references":[]}]}"##;
    let figure = marked("figure.csv", &format!("{head}\r\npanel,arm,seed,x,y\r\np,a,0,1.0,2.0\r\n"));
    assert_eq!(Figure::from_csv(&figure).unwrap().points.len(), 1);
    assert!(Figure::is_csv(&figure));
    ends(&["plot", &figure.display().to_string()], 0, &[]);
    std::fs::write(&figure, format!("{head}\npanel,arm,seed,x,y\np,a,0,1.0,2.0")).unwrap();
    ends(&["plot", &figure.display().to_string()], 4, &["line 3", "end it with a line feed"]);
}

#[test]
fn a_tilde_behind_the_kind_of_data_is_the_persons_own_folder() {
    let root = animals();
    let run = |data: &str| {
        let home = root.path().parent().unwrap();
        within(SECONDS, Command::new(SIM).args(["data", "check", "--data", data]).env("HOME", home))
    };
    let name = root.path().file_name().unwrap().to_string_lossy();
    let output = run(&format!("folder:~/{name}"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("4 training and 4 held-out images"));
    let refused = run("folder:~nobody/images");
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("whole path"));
}

#[test]
fn escape_sequences_in_names_do_not_reach_the_terminal() {
    let root = animals();
    let class = "train/cat\u{1b}]0;title\u{7}\u{9b}2J";
    picture(&root.path().join(class).join("0.png"), 1);
    picture(&root.path().join(class.replace("train", "test")).join("0.png"), 1);
    let data = folder(root.path());
    let clean = |output: &Output| {
        for bytes in [&output.stdout, &output.stderr] {
            assert!(!text(bytes).contains(|c: char| c.is_control() && c != '\n'), "{:?}", text(bytes));
        }
    };
    let output = ends(&["data", "check", "--data", &data], 0, &[]);
    assert!(text(&output.stdout).contains("cat\\u001b]0;title\\u0007\\u009b2J"));
    clean(&output);
    let output = ends(&["data", "check", "--data", &data, "--json"], 0, &[]);
    clean(&output);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["classes"][1], &class[6..]);
    std::fs::write(root.path().join(class).join("1.png"), "no image").unwrap();
    clean(&ends(&["data", "check", "--data", &data], 4, &["1.png"]));
    let study = root.path().join("mine.toml");
    std::fs::write(&study, "title = \"\u{1b}[31mred\u{9b}2J\"\nquestion = 3\n").unwrap();
    clean(&ends(&["run", &study.display().to_string()], 2, &["mine.toml"]));
    clean(&ends(&["run", "\u{1b}[31m"], 2, &[]));
    clean(&ends(&["data", "--\u{1b}[31m"], 2, &[]));
}

#[test]
fn data_check_says_what_there_is() {
    let root = animals();
    std::fs::write(root.path().join("train/cat/photo.jpg"), jpeg_to_be_turned(40, 30)).unwrap();
    std::fs::write(root.path().join("train/dog/new.svg"), "?").unwrap();
    std::fs::create_dir(root.path().join("train/empty")).unwrap();
    let data = folder(root.path());
    let words = ["1 image asks to be turned", "1 file of another type was left out (1 .svg)", "train/empty"];
    let output = ends(&["data", "check", "--data", &data], 0, &words);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("{data}: 5 training and 4 held-out images"));
    assert_eq!(lines[1], "width 16 to 40, height 16 to 30 pixels; 0 files skipped");
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(
        lines[2..5].iter().map(|line| words(line)).collect::<Vec<_>>(),
        [&["class", "training", "held", "out"][..], &["cat", "3", "2"], &["dog", "2", "2"]]
    );
    let digest = Dataset::open(&data_config(&data)).unwrap().digest;
    assert_eq!(lines[5..], [format!("sha256 {digest}")]);
    let output = ends(&["data", "check", "--data", &data, "--json"], 0, &[]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = serde_json::json!({"data": data, "train": 5, "test": 4, "classes": ["cat", "dog"],
        "train_by_class": [3, 2], "test_by_class": [2, 2], "width": [16, 40], "height": [16, 30], "skipped": 0,
        "turned": 1, "notes": line["notes"], "sha256": digest});
    assert_eq!(line, expected);
}

#[test]
fn what_is_left_out_is_said_once_where_training_begins() {
    let root = animals();
    for name in ["train/__MACOSX", "train/backup", "train/thumbs"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    std::fs::write(root.path().join("train/cat/2.png"), "no image").unwrap();
    let (data, out) = (folder(root.path()), root.path().join("runs").display().to_string());
    let args = ["run", "stopgrad", "--scale", "smoke", "--data", &data, "--skip-bad", "--out", &out];
    let limited = [&args[..], &["--set", "data.test_images=2", "--seeds", "2"]].concat();
    let said = text(&ends(&limited, 0, &[]).stderr);
    for once in [
        "2 folders hold no image and are no classes: train/backup, train/thumbs",
        "skipped 1 file:",
        "4 of 5 training and 2 of 4 held-out images; 1 file skipped, at 16 px",
    ] {
        assert_eq!(said.matches(once).count(), 1, "{once}: {said}");
    }
    let table = read_metrics(&root.path().join("runs/stopgrad/with/seed-0/metrics.csv")).unwrap();
    let chance = table.last("val/knn_top1").unwrap();
    assert!([0.0, 50.0, 100.0].contains(&chance), "one of each class is held out: {chance}");
}

/// Cells and points need more room in memory than in the file.
#[test]
fn tables_of_more_than_a_run_writes_are_refused_within_their_memory() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("table.csv");
    let write = |head: &str, row: &str| {
        std::fs::write(&path, format!("{head}{}\n", row.repeat((60 << 20) / row.len())))
    };
    write("a,b,c,d\n", ",,,\n").unwrap();
    let held = most_during(4 << 30, || {
        let refused = read_metrics(&path).unwrap_err().to_string();
        assert!(refused.contains("cells"), "{refused}");
    });
    assert!(held < 1 << 30, "{held} bytes held");
    write("a", ",b").unwrap();
    let held =
        most_during(4 << 30, || assert!(read_metrics(&path).unwrap_err().to_string().contains("columns")));
    assert!(held < 1 << 30, "{held} bytes held");
    let head = r##"# {"title":"t","caption":"c","arms":[["a","a"]],"panels":[{"name":"p","x":"x","y":"y","style":"curves","references":[]}]}"##;
    write(&format!("{head}\npanel,arm,seed,x,y\n"), "p,a,0,1,2\n").unwrap();
    let held = most_during(4 << 30, || {
        let refused = Figure::from_csv(&path).unwrap_err().to_string();
        assert!(refused.contains("points"), "{refused}");
    });
    assert!(held < 1 << 30, "{held} bytes held");
}

/// Beside each class's name, its images as they are and two views of each.
#[test]
fn data_preview_shows_the_images_themselves() {
    let root = tempfile::tempdir().unwrap();
    let colours = [("cat", [250, 10, 10]), ("dog", [10, 10, 250])];
    for (class, colour) in colours {
        for half in ["train", "test"] {
            let path = root.path().join(half).join(class).join("0.png");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image::RgbImage::from_pixel(16, 16, image::Rgb(colour)).save(path).unwrap();
        }
    }
    let out = root.path().join("sheet.png");
    let preview = |seed: &str| {
        let shown = out.display().to_string();
        let args = ["data", "preview", "--data", &folder(root.path()), "--out", &shown, "--seed", seed];
        let output = ends(&args, 0, &[]);
        assert_eq!(text(&output.stdout).trim_end(), shown);
        image::open(&out).unwrap().into_rgb8()
    };
    let sheet = preview("0");
    let rows = |colour: [u8; 3]| {
        let of = sheet.enumerate_pixels().filter(|(.., pixel)| pixel.0 == colour).map(|(_, y, _)| y);
        let rows: Vec<u32> = of.collect();
        (rows.iter().min().copied().unwrap(), rows.iter().max().copied().unwrap(), rows.len())
    };
    let [cat, dog] = colours.map(|(_, colour)| rows(colour));
    assert!(cat.2 >= 16 * 16 && dog.2 >= 16 * 16, "both images are on the sheet: {cat:?} {dog:?}");
    assert!(cat.1 < dog.0, "a row for each class, in order: {cat:?} {dog:?}");
    assert!(preview("0") == sheet && preview("1") != sheet, "the views are those of the seed");
}

/// A sheet has the views of the study that is named, as many as its flags say.
#[test]
fn data_preview_shows_the_views_of_a_study() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("sheet.png").display().to_string();
    let size = |args: &[&str]| {
        ends(&[&["data", "preview", "--per-class", "1", "--out", &out], args].concat(), 0, &[]);
        let sheet = image::open(&out).unwrap();
        (sheet.width(), sheet.height())
    };
    let smoke = ["--scale", "smoke"];
    let usual = size(&smoke);
    assert_eq!(size(&[&["simsiam"], &smoke[..]].concat()), usual);
    // More views, or small crops beside them.
    for more in [
        &["simsiam", "--set", "objective.pairs=2"][..],
        &["simsiam", "--set", "augment.multi_crop={count=3,size=16,crop_scale=[0.1,0.3]}"],
    ] {
        assert!(size(&[more, &smoke].concat()).0 > usual.0, "{more:?}");
    }
    ends(&["data", "preview", "linear-em", "--out", &out], 2, &["linear-em", "sees no images"]);
    ends(&["data", "preview", "simsam", "--out", &out], 2, &["simsiam"]);
}

#[test]
fn cost_accuracy_holds_the_numbers_that_were_measured() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().display().to_string();
    ends(&["run", "eta-rules", "--scale", "smoke", "--seeds", "2", "-q", "--out", &out], 0, &[]);
    let study = root.path().join("eta-rules");
    let figure = Figure::from_csv(&study.join("figures/cost-accuracy.csv")).unwrap();
    assert!(figure.points.len() >= 2 * 3 && figure.points.len() == 2 * figure.arms.len());
    for point in &figure.points {
        let run = study.join(&point.arm).join(format!("seed-{}", point.seed));
        let table = read_metrics(&run.join("metrics.csv")).unwrap();
        assert_eq!(
            (Some(point.x), Some(point.y)),
            (table.last("train/e_passes"), table.last("val/knn_top1"))
        );
    }
}

#[test]
fn completions_of_every_shell_know_the_studies() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ends(&["completions", shell], 0, &[]);
        let script = text(&output.stdout);
        for study in Study::all().unwrap() {
            assert!(script.contains(&study.name), "{shell}: no {}", study.name);
        }
    }
    let script = sim(&["completions", "bash"]).stdout;
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("sim.bash");
    std::fs::write(&path, script).unwrap();
    // Its words for `sim run st`, as bash asks for them.
    let ask = format!(
        "source {}; COMP_WORDS=(sim run st); COMP_CWORD=2; _sim sim st run; echo \"${{COMPREPLY[*]}}\"",
        path.display()
    );
    match Command::new("bash").args(["-c", &ask]).output() {
        Ok(output) => assert!(text(&output.stdout).contains("stopgrad"), "{}", text(&output.stderr)),
        Err(_) => println!("skipped: no bash on this machine"),
    }
}
