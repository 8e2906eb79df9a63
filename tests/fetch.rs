//! Published data sets from a server on this machine that cuts connections, ignores ranges, sends
//! wrong bytes, or is not there.

use crate::support::{output, sim};
use sha2::{Digest, Sha256};
use simsiam_em::error::Error;
use simsiam_em::fetch::{Options, Progress, Set, fetch};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a server does with one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends what is asked for, or the first so many bytes of it.
    Serve(usize),
    /// Sends all, whatever part was asked for, of which so many bytes come.
    IgnoreRange(usize),
    /// Another part than was asked for.
    WrongPart,
    Status(&'static str),
    /// To the archive.
    Redirect,
    /// Sends so many bytes and then nothing, but stays.
    FallSilent(usize),
}

const WHOLE: usize = usize::MAX;

/// The first lines and the ranges of all requests.
type Asked = Mutex<Vec<(String, Option<u64>)>>;

/// A server of one archive.
struct Server {
    url: String,
    asked: Arc<Asked>,
}

impl Server {
    /// Does one of `acts` after the other, and the last one for ever.
    fn of(archive: Vec<u8>, acts: &[Act]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/set.tar.gz", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (acts, seen) = (acts.to_vec(), asked.clone());
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let act = acts[index.min(acts.len() - 1)];
                let (archive, seen) = (archive.clone(), seen.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &archive, act, &seen));
            }
        });
        Server { url, asked }
    }

    fn ranges(&self) -> Vec<Option<u64>> {
        self.asked.lock().unwrap().iter().map(|(_, from)| *from).collect()
    }
}

fn answer(mut stream: TcpStream, archive: &[u8], act: Act, seen: &Asked) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let mut from = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse::<u64>().ok();
        }
    }
    seen.lock().unwrap().push((first, from));
    let len = archive.len();
    let begin = from.map_or(0, |from| from as usize);
    // The whole length is told, also where less of it comes.
    let mut send = |status: &str, headers: &str, from: usize, most: usize| {
        let rest = &archive[from.min(len)..];
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", rest.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&rest[..rest.len().min(most)]);
        let _ = stream.flush();
    };
    match act {
        Act::Serve(_) | Act::FallSilent(_) if begin > 0 && begin >= len => {
            send("416 Range Not Satisfiable", &format!("Content-Range: bytes */{len}\r\n"), len, 0);
        }
        Act::Serve(most) | Act::FallSilent(most) => {
            match from {
                None => send("200 OK", "", 0, most),
                Some(_) => {
                    let range = format!("Content-Range: bytes {begin}-{}/{len}\r\n", len - 1);
                    send("206 Partial Content", &range, begin, most);
                }
            }
            if matches!(act, Act::FallSilent(_)) {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        Act::IgnoreRange(most) => send("200 OK", "", 0, most),
        Act::WrongPart => {
            send("206 Partial Content", &format!("Content-Range: bytes 7-{}/{len}\r\n", len - 1), 7, WHOLE);
        }
        Act::Status(status) => send(status, "", len, 0),
        Act::Redirect => send("302 Found", "Location: /elsewhere.tar.gz\r\n", len, 0),
    }
}

/// A data set with one folder, `set`, and its archive.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none()));
    for (name, bytes) in [("set/train/a.bin", vec![1; 200_000]), ("set/test/b.bin", vec![2; 100_000])] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn set(url: &str, archive: &[u8], name: &str) -> Set {
    Set {
        name: "set".into(),
        url: url.into(),
        archive: name.into(),
        bytes: archive.len() as u64,
        sha256: Sha256::digest(archive).iter().map(|byte| format!("{byte:02x}")).collect(),
        folder: "set".into(),
        source: "folder".into(),
        unpacked: 1 << 20,
    }
}

fn options() -> Options {
    Options { from: None, pause: Duration::from_millis(1), silence: Duration::from_secs(20) }
}

fn fetched(set: &Set, to: &Path) -> Result<(PathBuf, bool), Error> {
    fetch(set, to, &options(), &mut |_| {}, &AtomicBool::new(false))
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_whole(to: &Path) -> bool {
    let read = |name: &str| std::fs::read(to.join("set").join(name)).unwrap();
    names(to) == ["set"] && read("train/a.bin") == [1; 200_000] && read("test/b.bin") == [2; 100_000]
}

#[test]
fn an_archive_comes_however_often_the_connection_is_cut() {
    let archive = archive();
    let len = archive.len() as u64;
    let half = (len / 2) as usize;
    for (acts, ranges) in [
        (&[Act::Serve(WHOLE)][..], vec![None]),
        (&[Act::Serve(half), Act::Serve(WHOLE)], vec![None, Some(len / 2)]),
        (
            &[Act::Serve(100), Act::Serve(100), Act::Serve(0), Act::Serve(WHOLE)],
            vec![None, Some(100), Some(200), Some(200)],
        ),
        // All of it comes again, of which what is there is passed over.
        (&[Act::Serve(half), Act::IgnoreRange(WHOLE)], vec![None, Some(len / 2)]),
        (
            &[Act::IgnoreRange(half), Act::IgnoreRange(100), Act::Serve(WHOLE)],
            vec![None, Some(len / 2), Some(len / 2)],
        ),
        (&[Act::Redirect, Act::Serve(WHOLE)], vec![None, None]),
        (&[Act::Status("503 Service Unavailable"), Act::Serve(WHOLE)], vec![None, None]),
        (
            &[Act::Serve(half), Act::Status("416 Range Not Satisfiable"), Act::Serve(WHOLE)],
            vec![None, Some(len / 2), None],
        ),
    ] {
        let server = Server::of(archive.clone(), acts);
        let to = tempfile::tempdir().unwrap();
        let (folder, is_new) = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap();
        assert!(is_new && folder == to.path().join("set"), "{acts:?}");
        assert!(is_whole(to.path()), "{acts:?}: {:?}", names(to.path()));
        assert_eq!(server.ranges(), ranges, "{acts:?}");
        let again = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap();
        assert!(!again.1 && server.ranges().len() == ranges.len());
    }
}

#[test]
fn what_came_is_kept_when_it_is_given_up_and_the_next_command_goes_on() {
    let archive = archive();
    let to = tempfile::tempdir().unwrap();
    let server = Server::of(archive.clone(), &[Act::Serve(1000), Act::Serve(0)]);
    let error = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap_err();
    assert!(matches!(error, Error::Failure(_)), "{error}");
    assert!(error.to_string().contains("what came is kept"), "{error}");
    assert_eq!(names(to.path()), ["set.tar.gz.part"]);
    assert_eq!(std::fs::read(to.path().join("set.tar.gz.part")).unwrap(), archive[..1000]);
    let server = Server::of(archive.clone(), &[Act::Serve(WHOLE)]);
    let mut told = Vec::new();
    let set = set(&server.url, &archive, "set.tar.gz");
    let mut tell = |progress: Progress| told.push(format!("{progress:?}"));
    fetch(&set, to.path(), &options(), &mut tell, &AtomicBool::new(false)).unwrap();
    assert!(is_whole(to.path()) && server.ranges() == [Some(1000)]);
    assert!(told[0].contains("there: 1000") && told.iter().any(|told| told.contains("Bytes")), "{told:?}");
}

#[test]
fn wrong_bytes_are_refused_and_removed() {
    let archive = archive();
    let mut wrong = archive.clone();
    wrong[1000] ^= 1;
    for (served, kept) in [
        (wrong.clone(), 0),
        // A page of a network that asks for a password, as long as it likes.
        ([b"<html>".to_vec(), vec![b' '; archive.len() + 99]].concat(), 0),
        // What was there is of another file.
        (archive.clone(), 5000),
    ] {
        let to = tempfile::tempdir().unwrap();
        if kept > 0 {
            std::fs::write(to.path().join("set.tar.gz.part"), &wrong[..kept]).unwrap();
        }
        let server = Server::of(served, &[Act::Serve(WHOLE)]);
        let set = set(&server.url, &archive, "set.tar.gz");
        let error = fetched(&set, to.path()).unwrap_err();
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(error.to_string().contains("SHA-256") && error.to_string().contains("removed"), "{error}");
        assert!(names(to.path()).is_empty(), "{:?}", names(to.path()));
    }
    // A shorter file ends before it can be compared.
    let server = Server::of(archive[..1000].to_vec(), &[Act::Serve(WHOLE)]);
    let to = tempfile::tempdir().unwrap();
    let error = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
}

#[test]
fn a_server_that_has_it_not_or_answers_strangely_is_told() {
    let archive = archive();
    for (acts, words) in [
        (&[Act::Status("404 Not Found")][..], "404"),
        (&[Act::Status("403 Forbidden")], "403"),
        (&[Act::Status("500 Internal Server Error")], "500"),
        (&[Act::Status("503 Service Unavailable")], "503"),
        (&[Act::Status("416 Range Not Satisfiable")], "no such archive"),
        (&[Act::Serve(10), Act::WrongPart], "another part"),
    ] {
        let to = tempfile::tempdir().unwrap();
        let server = Server::of(archive.clone(), acts);
        let error = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap_err();
        assert_eq!(error.exit_code(), 1, "{error}");
        let said = error.to_string();
        assert!(said.contains(words) && !said.contains('\n'), "{said}");
        let kept = if acts.len() > 1 { vec!["set.tar.gz.part"] } else { vec![] };
        assert_eq!(names(to.path()), kept, "{acts:?}");
    }
    let to = tempfile::tempdir().unwrap();
    for url in [
        "http://127.0.0.1:1/set.tar.gz",
        "http://nowhere.invalid/set.tar.gz",
        "no address",
        "ftp://127.0.0.1/x",
    ] {
        let error = fetched(&set(url, &archive, "set.tar.gz"), to.path()).unwrap_err();
        let said = error.to_string();
        assert!(
            matches!(error, Error::Failure(_)) && said.contains("set.tar.gz into") && !said.contains('\n'),
            "{said}"
        );
    }
}

#[test]
fn a_server_that_falls_silent_is_one_that_was_cut_and_a_wish_to_stop_is_heard() {
    let archive = archive();
    let to = tempfile::tempdir().unwrap();
    let server = Server::of(archive.clone(), &[Act::FallSilent(1000), Act::Serve(WHOLE)]);
    let set_of = |server: &Server| set(&server.url, &archive, "set.tar.gz");
    let brief = Options { silence: Duration::from_millis(300), ..options() };
    fetch(&set_of(&server), to.path(), &brief, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert!(is_whole(to.path()) && server.ranges() == [None, Some(1000)]);

    let to = tempfile::tempdir().unwrap();
    let server = Server::of(archive.clone(), &[Act::FallSilent(1000)]);
    let stop = AtomicBool::new(false);
    let mut tell = |progress: Progress| stop.store(matches!(progress, Progress::Bytes(_)), Ordering::Relaxed);
    let error = fetch(&set_of(&server), to.path(), &options(), &mut tell, &stop).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!(std::fs::read(to.path().join("set.tar.gz.part")).unwrap(), archive[..1000]);
}

#[test]
fn two_downloads_of_one_archive_do_not_mix() {
    let archive = archive();
    let to = tempfile::tempdir().unwrap();
    let part = std::fs::File::create(to.path().join("set.tar.gz.part")).unwrap();
    part.lock().unwrap();
    let server = Server::of(archive.clone(), &[Act::Serve(WHOLE)]);
    let error = fetched(&set(&server.url, &archive, "set.tar.gz"), to.path()).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error}");
    assert!(server.ranges().is_empty());
}

#[test]
fn an_archive_of_ones_own_is_taken_and_left_and_a_wrong_one_is_named() {
    let archive = archive();
    let to = tempfile::tempdir().unwrap();
    let own = to.path().join("set.tar.gz");
    let nowhere = set("http://127.0.0.1:1/set.tar.gz", &archive, "set.tar.gz");
    std::fs::write(&own, b"hello").unwrap();
    let error = fetched(&nowhere, to.path()).unwrap_err();
    assert!(error.exit_code() == 4 && error.to_string().contains("set.tar.gz") && own.exists(), "{error}");
    std::fs::write(&own, &archive).unwrap();
    // What an earlier process left half unpacked.
    std::fs::create_dir_all(to.path().join(".set.unpacking/set")).unwrap();
    fetched(&nowhere, to.path()).unwrap();
    assert_eq!(names(to.path()), ["set", "set.tar.gz"]);
}

/// An entry of a tar archive.
fn entry(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // Not `set_path`, which refuses what is tried here.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

#[test]
fn an_archive_whose_entries_lead_elsewhere_or_never_end_is_refused_and_leaves_nothing() {
    use tar::EntryType::{Link, Regular, Symlink};
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    for (entries, words) in [
        (vec![entry("set/../../outside", Regular, 4)], "leads out"),
        (vec![entry(outside.to_str().unwrap(), Regular, 4)], "leads out"),
        (vec![entry("set/link", Symlink, 0)], "neither a file nor a folder"),
        (vec![entry("set/link", Link, 0)], "neither a file nor a folder"),
        (vec![entry("set/a", Regular, 4), entry("set/a", Regular, 4)], "unpack the file"),
        (vec![entry("set/a", Regular, 2 << 20)], "more than the data set"),
        (vec![entry("other/a", Regular, 4)], "no folder set"),
    ] {
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for header in &entries {
            tar.append(header, std::io::repeat(7).take(header.size().unwrap())).unwrap();
        }
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let to = root.path().join("to");
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(to.join("set.tar.gz"), &archive).unwrap();
        let error = fetched(&set("http://127.0.0.1:1/", &archive, "set.tar.gz"), &to).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert!(names(&to) == ["set.tar.gz"] && !outside.exists(), "{words}: {:?}", names(&to));
    }
}

#[test]
fn a_zip_archive_is_unpacked_and_a_damaged_one_refused() {
    let pack = |name: &str| {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let deflated =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.add_directory("set/", deflated).unwrap();
        zip.start_file(name, deflated).unwrap();
        zip.write_all(&[3; 5000]).unwrap();
        zip.start_file("set/stored", deflated.compression_method(zip::CompressionMethod::Stored)).unwrap();
        zip.write_all(b"four").unwrap();
        zip.finish().unwrap().into_inner()
    };
    let unpacked = |archive: &[u8]| {
        let to = tempfile::tempdir().unwrap();
        std::fs::write(to.path().join("set.zip"), archive).unwrap();
        let ended = fetched(&set("http://127.0.0.1:1/", archive, "set.zip"), to.path());
        (to, ended)
    };
    let whole = pack("set/deep/in/a.bin");
    let (to, ended) = unpacked(&whole);
    ended.unwrap();
    assert_eq!(std::fs::read(to.path().join("set/deep/in/a.bin")).unwrap(), [3; 5000]);
    assert_eq!(std::fs::read(to.path().join("set/stored")).unwrap(), b"four");
    let (_, ended) = unpacked(&pack("set/../../a.bin"));
    assert!(ended.unwrap_err().to_string().contains("leads out"));
    let mut damaged = whole.clone();
    let at = damaged.windows(4).position(|window| window == b"four").unwrap();
    damaged[at] ^= 1;
    for bytes in [damaged, whole[..whole.len() - 30].to_vec()] {
        let (to, ended) = unpacked(&bytes);
        assert_eq!(ended.unwrap_err().exit_code(), 4);
        assert_eq!(names(to.path()), ["set.zip"]);
    }
}

#[test]
fn the_command_tells_what_it_does_and_leaves_what_came() {
    let root = tempfile::tempdir().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let unknown = output(root.path(), &["data", "fetch", "imagenet"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("tiny-imagenet"), "{}", text(&unknown.stderr));

    let missing = Server::of(Vec::new(), &[Act::Status("404 Not Found")]);
    let failed = output(root.path(), &["data", "fetch", "cifar10", "--from", &missing.url]);
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    for words in [
        "cifar10: 170.1 MB from http://127.0.0.1",
        "404 Not Found",
        "put cifar-10-binary.tar.gz into data by other means",
    ] {
        assert!(said.contains(words), "{said} lacks '{words}'");
    }
    assert!(!said.contains("panicked"), "{said}");

    // A proxy is asked in the place of the server.
    let proxy = Server::of(Vec::new(), &[Act::Status("403 Forbidden")]);
    let address = proxy.url.trim_end_matches("/set.tar.gz");
    let mut command = sim(root.path(), &["data", "fetch", "imagenette", "--to", "proxied"]);
    for variable in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        command.env(variable, address);
    }
    let failed = command.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    let asked = proxy.asked.lock().unwrap();
    assert!(asked[0].0.starts_with("CONNECT s3.amazonaws.com:443"), "{asked:?}");
}

/// Names the folder and the server's address for a child of the test below.
const LIMITED: &str = "SIM_TEST_FETCH_TO";

/// Fetches on a disk that is full after some bytes, when the test below asks for it.
#[cfg(unix)]
#[test]
fn limited() {
    let Ok(asked) = std::env::var(LIMITED) else { return };
    let (url, to) = asked.split_once(' ').unwrap();
    let ended = fetched(&set(url, &archive(), "set.tar.gz"), Path::new(to)).unwrap_err();
    println!("ended with {}: {ended}", ended.exit_code());
}

/// No file may grow beyond a limit, 180 blocks of half a KiB or of one: a write ends in the midst
/// of a piece, as on a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_it_with_5_and_the_same_command_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let archive = archive();
    let part = root.path().join("set.tar.gz.part");
    let server = Server::of(archive.clone(), &[Act::Serve(WHOLE)]);
    let set = set(&server.url, &archive, "set.tar.gz");
    let limited = || {
        let script = "trap '' XFSZ; ulimit -f 180; exec \"$0\" --exact fetch::limited --nocapture";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(std::env::current_exe().unwrap());
        command.env(LIMITED, format!("{} {}", set.url, root.path().display()));
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    // While it is downloaded, twice: the second begins where nothing more can be written.
    for _ in 0..2 {
        let said = limited();
        assert!(said.contains("ended with 5: ") && said.contains("part: cannot write the archive"), "{said}");
    }
    let came = part.metadata().unwrap().len();
    assert!(came > 0 && std::fs::read(&part).unwrap() == archive[..came as usize]);
    // While it is unpacked: the archive is kept, and nothing of the folder.
    std::fs::rename(&part, root.path().join("kept")).unwrap();
    std::fs::write(root.path().join("set.tar.gz"), &archive).unwrap();
    let said = limited();
    assert!(said.contains("ended with 5: ") && said.contains("a.bin: cannot unpack the file"), "{said}");
    assert_eq!(names(root.path()), ["kept", "set.tar.gz"]);
    std::fs::remove_file(root.path().join("set.tar.gz")).unwrap();
    std::fs::rename(root.path().join("kept"), &part).unwrap();
    assert!(fetched(&set, root.path()).unwrap().1 && is_whole(root.path()));
    assert_eq!(server.ranges(), [None, Some(came), Some(came)]);
    // The command's own words.
    let script = "ulimit -f 180; exec \"$0\" data fetch cifar10 --from \"$1\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_sim"), &server.url]).current_dir(root.path());
    let full = command.output().unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(5), "{said}");
    assert!(said.contains("what came is kept, and the same command goes on once there is space"), "{said}");
}

/// A signal while the server sends nothing, and a folder that cannot be written.
#[cfg(unix)]
#[test]
fn a_signal_ends_it_with_75_and_a_folder_without_permission_with_5() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::of(vec![7; 5000], &[Act::FallSilent(3000)]);
    let mut command = sim(root.path(), &["data", "fetch", "cifar100", "--from", &server.url]);
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let part = root.path().join("data/cifar-100-binary.tar.gz.part");
    let begun = std::time::Instant::now();
    while part.metadata().map_or(0, |metadata| metadata.len()) < 3000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert!(said.contains("what came is kept") && part.metadata().unwrap().len() == 3000, "{said}");

    std::fs::write(root.path().join("file"), "no folder").unwrap();
    let refused =
        output(root.path(), &["data", "fetch", "cifar100", "--to", "file/in", "--from", &server.url]);
    assert_eq!(refused.status.code(), Some(5), "{}", String::from_utf8_lossy(&refused.stderr));
}
