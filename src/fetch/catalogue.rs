//! The data sets that can be fetched.

/// A published data set.
#[derive(Clone, Debug)]
pub struct Set {
    /// What a person calls it.
    pub name: String,
    /// Where its archive is published.
    pub url: String,
    /// The archive's name.
    pub archive: String,
    /// The archive's length in bytes.
    pub bytes: u64,
    /// The archive's SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
    /// The one folder in it.
    pub folder: String,
    /// What stands before the folder's path where images are named.
    pub source: String,
    /// Bytes that it unpacks to at most.
    pub unpacked: u64,
}

/// An entry of [`SETS`].
struct Published {
    name: &'static str,
    url: &'static str,
    bytes: u64,
    sha256: &'static str,
    folder: &'static str,
    source: &'static str,
}

/// The names of all sets, in the order in which they are listed for a person.
pub const SETS: [&str; 5] = {
    let mut names = [""; 5];
    let mut index = 0;
    while index < names.len() {
        names[index] = PUBLISHED[index].name;
        index += 1;
    }
    names
};

/// Lengths and checksums are those that several public projects pin; the MD5 sums that the CIFAR
/// page itself and torchvision have belong to the same files.
const PUBLISHED: [Published; 5] = [
    Published {
        name: "cifar10",
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        bytes: 170_052_171,
        sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        folder: "cifar-10-batches-bin",
        source: "cifar10",
    },
    Published {
        name: "cifar100",
        url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        bytes: 168_513_733,
        sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        folder: "cifar-100-binary",
        source: "cifar100",
    },
    Published {
        name: "stl10",
        url: "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        bytes: 2_640_397_119,
        sha256: "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        folder: "stl10_binary",
        source: "stl10",
    },
    Published {
        name: "imagenette",
        url: "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
        bytes: 99_003_388,
        sha256: "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
        folder: "imagenette2-160",
        source: "folder",
    },
    Published {
        name: "tiny-imagenet",
        url: "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        bytes: 248_100_043,
        sha256: "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
        folder: "tiny-imagenet-200",
        source: "tiny-imagenet",
    },
];

/// An archive of images that are compressed already unpacks to hardly more than its length, that of
/// STL-10 to 1.2 times as much; names, paddings and tables come on top.
const UNPACKS: u64 = 4;

impl Set {
    /// The set called `name`.
    pub fn find(name: &str) -> Option<Set> {
        let found = PUBLISHED.iter().find(|published| published.name == name)?;
        let Published { name, url, bytes, sha256, folder, source } = found;
        Some(Set {
            name: (*name).into(),
            url: (*url).into(),
            archive: url.rsplit('/').next().unwrap_or(url).into(),
            bytes: *bytes,
            sha256: (*sha256).into(),
            folder: (*folder).into(),
            source: (*source).into(),
            unpacked: UNPACKS * bytes,
        })
    }
}
