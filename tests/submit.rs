//! `sim submit` and `--only`, with programs in place of Slurm's that do at once, one after the
//! other, what Slurm does by and by; and, on request, with Slurm.

use crate::support::{CLAIMED, mine, output, results, sim};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// Takes a script: every task of its array, again as often as scontrol asks for it, then says the
/// job's number. Jobs that wait for others are made at once, since these have ended.
const SBATCH: &str = r#"#!/bin/bash
number=$(($(cat "$LAB/number" 2>/dev/null || echo 0) + 1)); echo $number >"$LAB/number"
echo "sbatch $*" >>"$LAB/calls"
[ -e "$LAB/refuses" ] && { echo "sbatch: error: invalid partition" >&2; exit 1; }
while [ "${1#--}" != "$1" ]; do
  case $1 in --array=*) array=${1#--array=} ;; --output=*) log=${1#--output=} ;; esac
  shift
done
script=$1; shift
: "${log:=$(sed -n 's/^#SBATCH --output=//p' "$script")}"
if [ -z "$array" ]; then
  bash "$script" >>"$log" 2>&1
else
  tasks=${array%\%*}
  for task in $(seq ${tasks%-*} ${tasks#*-}); do
    restarts=0
    while
      rm -f "$LAB/again"
      SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task SLURM_RESTART_COUNT=$restarts \
        bash "$script" "$@" >>"${log//%a/$task}" 2>&1
      [ "$(cat "$LAB/again" 2>/dev/null)" = "requeue ${number}_$task" ]
    do restarts=$((restarts + 1)); done
  done
fi
echo "$number;lab"
"#;

/// Runs the command of a step. Where there is a file `cut`, every run's first attempt gets TERM
/// once it has begun to train; where there is one `fails`, its commands fail.
const SRUN: &str = r#"#!/bin/bash
while [ "${1#--}" != "$1" ]; do shift; done
[ -e "$LAB/fails" ] && exit 1
[ -e "$LAB/cut" ] && [ "$SLURM_RESTART_COUNT" = 0 ] || exec "$@"
"$@" & run=$!
until find . -newer "$LAB/number" -name metrics.csv | grep -q . || ! kill -0 $run 2>/dev/null; do sleep 0.02; done
sleep 0.1; kill -TERM $run 2>/dev/null
wait $run
"#;

const SCONTROL: &str = "#!/bin/bash\necho \"$*\" >\"$LAB/again\"; echo \"scontrol $*\" >>\"$LAB/calls\"\n";
const SQUEUE: &str = "#!/bin/bash\ncat \"$LAB/queue\" 2>/dev/null\n";

/// A folder to work in, and one with Slurm's programs.
struct Lab {
    folder: tempfile::TempDir,
    programs: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let lab = Lab { folder: tempfile::tempdir().unwrap(), programs: tempfile::tempdir().unwrap() };
        for (name, text) in [("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL), ("squeue", SQUEUE)] {
            let path = lab.programs.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        lab
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file by which the programs are told what to do.
    fn tell(&self, name: &str, text: &str) {
        std::fs::write(self.programs.path().join(name), text).unwrap();
    }

    /// What was asked of Slurm.
    fn calls(&self) -> String {
        std::fs::read_to_string(self.programs.path().join("calls")).unwrap_or_default()
    }

    fn sim(&self, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.programs.path().display(), std::env::var("PATH").unwrap());
        sim(self.path(), args).env("PATH", path).env("LAB", self.programs.path()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

/// Run → its results, below a folder of runs.
fn all_results(out: &Path) -> BTreeMap<PathBuf, [Vec<u8>; 3]> {
    let mut all = BTreeMap::new();
    let mut folders = vec![out.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.join("outcome.json").is_file() {
            all.insert(folder.strip_prefix(out).unwrap().to_path_buf(), results(&folder));
            continue;
        }
        let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| path.is_dir()));
    }
    all
}

/// Long enough that TERM comes before the end.
const STUDY: [&str; 9] =
    ["multistep", "--k", "1,2", "--scale", "smoke", "--seeds", "2", "--set", "schedule.epochs=60"];

#[test]
fn a_cluster_leaves_the_same_bytes_also_where_runs_are_cut_short_and_queued_again() {
    let (here, lab) = (tempfile::tempdir().unwrap(), Lab::new());
    let ran = output(here.path(), &[&["run"], &STUDY[..], &["--quiet"]].concat());
    complaint(&ran, 0);
    lab.tell("cut", "");
    let submitted = lab.sim(&[&["submit"], &STUDY[..], &["--slurm", "time=2,partition=a,b"]].concat());
    complaint(&submitted, 0);
    assert!(text(&submitted.stdout).starts_with("4 runs submitted as Slurm's job 1,"), "{submitted:?}");
    let calls = lab.calls();
    assert_eq!(calls.matches("scontrol requeue 1_").count(), 4, "every run was cut once: {calls}");
    assert!(calls.contains("--dependency=afterany:1 "), "{calls}");
    let (alone, together) = (all_results(&here.path().join("runs")), all_results(&lab.path().join("runs")));
    assert_eq!(alone.len(), 4);
    assert_eq!(alone.keys().collect::<Vec<_>>(), together.keys().collect::<Vec<_>>());
    assert!(alone == together, "results differ");
    // The last job's answer is that of `sim run`, and it stands in the log.
    let read = |root: &Path| std::fs::read_to_string(root.join("runs/multistep/claims.csv")).unwrap();
    assert_eq!(read(here.path()), read(lab.path()));
    let log = std::fs::read_to_string(lab.path().join("runs/slurm/multistep/1/gather.log")).unwrap();
    assert!(log.contains("k=2 SGD steps per update"), "{log}");
}

#[test]
fn a_suite_is_made_once_however_many_studies_share_a_run() {
    let (here, lab) = (tempfile::tempdir().unwrap(), Lab::new());
    let suite = ["comparisons", "--scale", "mock", "--seeds", "1"];
    complaint(&output(here.path(), &[&["run"], &suite[..], &["--quiet"]].concat()), 0);
    complaint(&lab.sim(&[&["submit"], &suite[..]].concat()), 0);
    let list = std::fs::read_to_string(lab.path().join("runs/slurm/comparisons/1/runs.txt")).unwrap();
    let runs = |root: &Path| all_folders(&root.join("runs"));
    assert_eq!(runs(here.path()), runs(lab.path()));
    assert!(list.lines().count() < runs(lab.path()).len(), "shared runs are listed once");
}

/// The folders of runs that have ended.
fn all_folders(out: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![out.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if folder.join("outcome.json").is_file() {
            found.push(folder.strip_prefix(out).unwrap().to_path_buf());
        }
        let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(inside.filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

#[test]
fn the_last_job_submits_the_next_round_until_claims_are_decided() {
    let (here, lab) = (tempfile::tempdir().unwrap(), Lab::new());
    let flags = ["mine.toml", "--scale", "mock", "--until-decided", "--max-seeds", "30"];
    for root in [here.path(), lab.path()] {
        std::fs::write(root.join("mine.toml"), mine(&CLAIMED[..2])).unwrap();
    }
    complaint(&output(here.path(), &[&["run"], &flags[..], &["--quiet"]].concat()), 0);
    complaint(&lab.sim(&[&["submit"], &flags[..], &["--slurm", "time=1:00,mem=2G"]].concat()), 0);
    let read = |root: &Path| std::fs::read_to_string(root.join("runs/mine/claims.csv")).unwrap();
    assert_eq!(read(here.path()), read(lab.path()));
    let slurm = lab.path().join("runs/slurm/mine");
    let rounds = std::fs::read_dir(&slurm).unwrap().count();
    assert!(rounds > 2, "{rounds} rounds");
    let last = std::fs::read_to_string(slurm.join(format!("{rounds}/array.sh"))).unwrap();
    assert!(last.contains("#SBATCH --time=1:00\n#SBATCH --mem=2G\n"), "{last}");
    // Nothing is left to submit: the same command answers.
    let again = lab.sim(&[&["submit"], &flags[..]].concat());
    complaint(&again, 0);
    assert!(text(&again.stdout).contains("reproduced"), "{again:?}");
    assert_eq!(std::fs::read_dir(&slurm).unwrap().count(), rounds);
}

#[test]
fn runs_that_did_not_end_are_told_and_not_submitted_again_by_themselves() {
    let lab = Lab::new();
    lab.tell("fails", "");
    let study = ["submit", "simsiam", "--scale", "mock", "--seeds", "3"];
    complaint(&lab.sim(&study), 0);
    let log = std::fs::read_to_string(lab.path().join("runs/slurm/simsiam/1/gather.log")).unwrap();
    assert!(log.contains("error: 3 of 3 runs did not end: lines 1, 2, 3 of"), "{log}");
    assert!(!lab.path().join("runs/slurm/simsiam/2").exists());
    // While jobs are in the queue a person cannot submit them twice.
    lab.tell("queue", "1\n1\n");
    let refused = complaint(&lab.sim(&study), 2);
    assert!(refused.contains("job 1 of the last submission") && refused.contains("scancel 1 2"), "{refused}");
    lab.tell("queue", "");
    std::fs::remove_file(lab.programs.path().join("fails")).unwrap();
    complaint(&lab.sim(&study), 0);
    let log = std::fs::read_to_string(lab.path().join("runs/slurm/simsiam/2/gather.log")).unwrap();
    assert!(log.contains("SimSiam: "), "{log}");
}

#[test]
fn after_scancel_nothing_is_queued_again() {
    let lab = Lab::new();
    complaint(&lab.sim(&["submit", "simsiam", "--scale", "mock", "--seeds", "1", "--dry-run"]), 0);
    lab.tell("srun", "#!/bin/bash\ntouch \"$LAB/began\"; sleep 1; exit 75\n");
    let script = lab.path().join("runs/slurm/simsiam/1/array.sh");
    let task = |restarts: &str| {
        let path = format!("{}:{}", lab.programs.path().display(), std::env::var("PATH").unwrap());
        let mut task = Command::new("bash");
        task.arg(&script).env("PATH", path).env("LAB", lab.programs.path());
        task.env("SLURM_ARRAY_JOB_ID", "7")
            .env("SLURM_ARRAY_TASK_ID", "1")
            .env("SLURM_RESTART_COUNT", restarts);
        task
    };
    let mut cancelled = task("0").spawn().unwrap();
    while !lab.programs.path().join("began").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    complaint(&Command::new("kill").args(["-TERM", &cancelled.id().to_string()]).output().unwrap(), 0);
    assert!(!cancelled.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(lab.calls(), "");
    // Its step alone ends with 75 where the time was over; after so many restarts that is that.
    assert_eq!(task("0").status().unwrap().code(), Some(75));
    assert_eq!(lab.calls(), "scontrol requeue 7_1\n");
    assert_eq!(task("20").status().unwrap().code(), Some(75));
    assert_eq!(lab.calls(), "scontrol requeue 7_1\n");
}

#[test]
fn a_dry_run_writes_what_other_programs_can_work_off() {
    let lab = Lab::new();
    let study = ["multistep", "--k", "1,2", "--scale", "mock", "--seeds", "2"];
    let out = ["--out", "my runs", "--slurm", "partition=gpu", "--dry-run"];
    let dry = lab.sim(&[&["submit"], &study[..], &out[..]].concat());
    complaint(&dry, 0);
    assert_eq!(lab.calls(), "");
    let folder = lab.path().join("my runs/slurm/multistep/1");
    let script = std::fs::read_to_string(folder.join("array.sh")).unwrap();
    let root = lab.path().canonicalize().unwrap();
    let shown = script.replace(root.to_str().unwrap(), "ROOT");
    crate::mock::assert_snapshot("array.sh", &shown);
    // Every line makes one run, as xargs and GNU parallel take them.
    let list = folder.join("runs.txt");
    let lines = std::fs::read_to_string(&list).unwrap();
    assert_eq!(lines.lines().count(), 4);
    for line in lines.lines() {
        let made = Command::new("sh").arg("-c").arg(line).current_dir(lab.path()).output().unwrap();
        complaint(&made, 0);
    }
    assert_eq!(all_folders(&lab.path().join("my runs")).len(), 4);
    assert!(!lab.path().join("my runs/multistep/answer.json").exists(), "one run is judged by nobody");
    // A second one is written over the first, which nobody took.
    complaint(&lab.sim(&[&["submit", "multistep", "--k", "5", "--scale", "mock"], &out[..]].concat()), 0);
    assert!(!lab.path().join("my runs/slurm/multistep/2").exists());
}

#[test]
fn a_task_starts_as_many_processes_as_share_its_run() {
    let lab = Lab::new();
    let study = ["submit", "simsiam", "--scale", "mock", "--seeds", "1", "--dry-run", "--ranks", "2"];
    assert!(complaint(&lab.sim(&study), 2).contains("--set schedule.shards=2"));
    complaint(&lab.sim(&[&study[..], &["--set", "schedule.shards=2", "--threads", "3"]].concat()), 0);
    let folder = lab.path().join("runs/slurm/simsiam/1");
    let script = std::fs::read_to_string(folder.join("array.sh")).unwrap();
    for line in [
        "#SBATCH --ntasks=2",
        "#SBATCH --cpus-per-task=3",
        "export SLURM_MPI_TYPE=${SLURM_MPI_TYPE:-pmi2}",
        "eval \"srun --ntasks=2 --cpus-per-task=3 --kill-on-bad-exit=1 $run\"",
    ] {
        assert!(script.lines().any(|found| found == line), "{line} is not in\n{script}");
    }
    let gathering = std::fs::read_to_string(folder.join("gather.sh")).unwrap();
    assert!(gathering.contains("--ranks=2") && gathering.contains("schedule.shards=2"), "{gathering}");
}

#[test]
fn gnu_parallel_works_the_list_off_and_makes_what_failed_again() {
    if !Command::new("parallel").arg("--version").output().is_ok_and(|said| said.status.success()) {
        println!("skipped: no GNU parallel on this machine");
        return;
    }
    let lab = Lab::new();
    complaint(&lab.sim(&["submit", "simsiam", "--scale", "mock", "--seeds", "3", "--dry-run"]), 0);
    let list = lab.path().join("runs/slurm/simsiam/1/runs.txt");
    let blocked = lab.path().join("runs/simsiam/simsiam/seed-1");
    std::fs::create_dir_all(blocked.parent().unwrap()).unwrap();
    std::fs::write(&blocked, "a file in the way").unwrap();
    let work_off = || {
        let parallel = "parallel --will-cite --jobs 2 --joblog joblog --resume-failed <";
        let command = format!("{parallel} {}", list.display());
        Command::new("sh").arg("-c").arg(command).current_dir(lab.path()).output().unwrap()
    };
    assert_eq!(work_off().status.code(), Some(1), "one run failed");
    std::fs::remove_file(&blocked).unwrap();
    complaint(&work_off(), 0);
    let log = std::fs::read_to_string(lab.path().join("joblog")).unwrap();
    assert_eq!(log.lines().count(), 5, "the one that failed was made again, and no other: {log}");
    assert_eq!(all_folders(&lab.path().join("runs")).len(), 3);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new();
    let mock = ["--scale", "mock", "--seeds", "2"];
    for (args, word) in [
        (&["run", "simsiam", "--only", "2"][..], "there are 2 runs, and the first is 0"),
        (&["run", "simsiam", "--only", "first"], "invalid value"),
        (&["run", "simsiam", "--only", "0", "--until-decided"], "judges nothing"),
        (&["submit", "simsiam", "--jobs", "2"], "--max-parallel"),
        (&["submit", "simsiam", "--fresh"], "not started over"),
        (&["submit", "simsiam", "--slurm", "array=1-5"], "--max-parallel"),
        (&["submit", "simsiam", "--slurm", "time"], "refused"),
        (&["submit", "simsiam", "--set", "optim.base_lr=0.1\n"], "line breaks"),
        (&["submit", "nothing"], "nothing"),
    ] {
        if word == "refused" {
            lab.tell("refuses", "");
            let said = complaint(&lab.sim(&[args, &mock[..]].concat()), 1);
            assert!(said.contains("sbatch refused: sbatch: error: invalid partition"), "{said}");
            continue;
        }
        let said = complaint(&lab.sim(&[args, &mock[..]].concat()), 2);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    // Without Slurm there is a way too.
    let missing = sim(lab.path(), &[&["submit", "simsiam"], &mock[..]].concat()).env("PATH", "").output();
    let said = complaint(&missing.unwrap(), 2);
    assert!(said.contains("--dry-run"), "{said}");
}

/// What a cluster of this machine alone is told. Files lie in FOLDER.
const CLUSTER: &str = "ClusterName=lab
SlurmctldHost=NODE(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=FOLDER/munge.socket,cred_expire=8
StateSaveLocation=FOLDER/state
SlurmdSpoolDir=FOLDER/spool
SlurmctldPidFile=FOLDER/slurmctld.pid
SlurmdPidFile=FOLDER/slurmd.pid
SlurmctldLogFile=FOLDER/slurmctld.log
SlurmdLogFile=FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=10
NodeName=NODE NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=lab Nodes=NODE Default=YES MaxTime=INFINITE State=UP
";

/// Ends the programs of a cluster.
struct Daemons(Vec<PathBuf>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for file in self.0.iter().rev() {
            if let Ok(number) = std::fs::read_to_string(file) {
                drop(Command::new("kill").arg(number.trim()).status());
            }
        }
    }
}

/// A cluster of this machine in `folder`; the file that its programs read.
fn cluster(folder: &Path) -> (Daemons, PathBuf) {
    let name = text(&Command::new("hostname").output().unwrap().stdout);
    let root = folder.to_str().unwrap();
    let config = folder.join("slurm.conf");
    std::fs::write(&config, CLUSTER.replace("NODE", name.trim()).replace("FOLDER", root)).unwrap();
    for below in ["state", "spool"] {
        std::fs::create_dir(folder.join(below)).unwrap();
    }
    let key = folder.join("munge.key");
    std::fs::write(&key, [7u8; 64]).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = |name: &str| format!("{root}/munge.{name}");
    let start = |program: &str, args: &[String]| {
        let status = Command::new(program).args(args).status();
        assert!(status.unwrap_or_else(|e| panic!("{program}: {e}")).success(), "{program} does not start");
    };
    let munge = ["key-file=", "socket=", "pid-file=", "log-file=", "seed-file="].map(|option| {
        let (name, _) = option.split_once(['-', '=']).unwrap();
        format!("--{option}{}", file(name))
    });
    let daemons = ["munge.pid", "slurmctld.pid", "slurmd.pid"].map(|name| folder.join(name));
    let daemons = Daemons(daemons.to_vec());
    start("munged", &[&["--force".to_string()], &munge[..]].concat());
    start("slurmctld", &["-f".to_string(), config.display().to_string()]);
    start("slurmd", &["-f".to_string(), config.display().to_string()]);
    (daemons, config)
}

/// Two runs, each cut after twenty seconds again and again, have the bytes of undisturbed ones.
#[test]
#[ignore = "starts munge and Slurm (Debian: munge, slurm-wlm, slurm-client) as root; five minutes"]
fn slurm_leaves_the_same_bytes() {
    let (folder, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lab = folder.path();
    std::fs::set_permissions(lab, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_daemons, config) = cluster(lab);
    let slurm = |program: &str, args: &[&str]| {
        text(&Command::new(program).args(args).env("SLURM_CONF", &config).output().unwrap().stdout)
    };
    while !slurm("sinfo", &["--noheader", "--format=%t"]).contains("idle") {
        std::thread::sleep(Duration::from_millis(200));
    }
    let study =
        ["multistep", "--k", "1,2", "--scale", "smoke", "--seeds", "1", "--set", "schedule.epochs=2500"];
    let submit = [&["submit"], &study[..], &["--slurm", "time=2,signal=TERM@100"]].concat();
    complaint(&sim(lab, &submit).env("SLURM_CONF", &config).output().unwrap(), 0);
    while !slurm("squeue", &["--noheader"]).trim().is_empty() {
        std::thread::sleep(Duration::from_secs(1));
    }
    let log = std::fs::read_to_string(lab.join("runs/slurm/multistep/1/run-1.log")).unwrap();
    assert!(log.contains("the same command goes on from here"), "it was never cut: {log}");
    complaint(&output(here.path(), &[&["run"], &study[..], &["--quiet"]].concat()), 0);
    assert!(all_results(&here.path().join("runs")) == all_results(&lab.join("runs")), "results differ");
    assert!(lab.join("runs/multistep/answer.json").exists());
}
