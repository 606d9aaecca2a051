//! Turns the initrd's `NN-name.ko` files into loaded kernel modules, in the order of their names.
//! The kernel judges no signature here: the whole initrd was measured.

use std::fs::File;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use super::InitError;

/// More modules than this no image has.
const MOST: usize = 64;
/// Modules of one technology, which a machine of another kind refuses; whether the device is needed is decided later.
const OF_A_TECHNOLOGY: [&str; 2] = ["sev-guest", "tdx-guest"];

/// Loads every module of the folder.
///
/// # Errors
/// `INIT_MODULE`.
pub fn load(folder: &Path) -> Result<(), InitError> {
    load_with(folder, &mut |file| finit_module(file, c"", 0))
}

fn load_with(folder: &Path, insert: &mut dyn FnMut(&File) -> Result<(), Errno>) -> Result<(), InitError> {
    for file in list(folder)? {
        let name = name(&file).ok_or(InitError::ModuleList("a name is not NN-name.ko"))?;
        let opened = File::open(folder.join(&file)).map_err(|_| InitError::ModuleList("a module cannot be read"))?;
        match insert(&opened) {
            Ok(()) => {}
            Err(Errno::NODEV) if OF_A_TECHNOLOGY.contains(&name) => {}
            Err(errno) => return Err(InitError::Module(name.to_owned(), errno.raw_os_error())),
        }
    }
    Ok(())
}

/// The names in the folder, in order.
fn list(folder: &Path) -> Result<Vec<String>, InitError> {
    let unreadable = |_| InitError::ModuleList("the folder cannot be read");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().into_string();
        names.push(name.map_err(|_| InitError::ModuleList("a name is not NN-name.ko"))?);
        if names.len() > MOST {
            return Err(InitError::ModuleList("there are more than 64"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `sev-guest` of `07-sev-guest.ko`.
fn name(file: &str) -> Option<&str> {
    let (number, name) = file.strip_suffix(".ko")?.split_once('-')?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let two_digits = number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit());
    (two_digits && !name.is_empty() && name.bytes().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    /// What was inserted, in order, by a kernel that answers `answer` to the module whose text this is.
    fn insert(names: &[&str], answer: (&str, Errno)) -> (Vec<String>, Result<(), InitError>) {
        let mut seen = Vec::new();
        let result = load_with(folder(names).path(), &mut |mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            let refused = text == answer.0;
            seen.push(text);
            if refused { Err(answer.1) } else { Ok(()) }
        });
        (seen, result)
    }

    const NONE: (&str, Errno) = ("", Errno::NODEV);

    #[test]
    fn modules_are_loaded_in_the_order_of_their_names() {
        let names = ["10-tsm.ko", "02-virtio_net.ko", "01-net_failover.ko", "00-failover.ko"];
        let (seen, result) = insert(&names, NONE);
        assert_eq!(result, Ok(()));
        assert_eq!(seen, ["00-failover.ko", "01-net_failover.ko", "02-virtio_net.ko", "10-tsm.ko"]);
    }

    #[test]
    fn only_a_module_of_the_other_technology_may_find_no_device() {
        let names = ["00-virtio_net.ko", "01-sev-guest.ko", "02-tdx-guest.ko"];
        for tolerated in ["01-sev-guest.ko", "02-tdx-guest.ko"] {
            let (seen, result) = insert(&names, (tolerated, Errno::NODEV));
            assert_eq!((seen.len(), result), (3, Ok(())), "{tolerated}");
        }
        let refused = |name: &str, errno: Errno| Err(InitError::Module(name.into(), errno.raw_os_error()));
        let (seen, result) = insert(&names, ("00-virtio_net.ko", Errno::NODEV));
        assert_eq!((seen.len(), result), (1, refused("virtio_net", Errno::NODEV)), "nothing is loaded after it");
        let (_, result) = insert(&names, ("01-sev-guest.ko", Errno::NOEXEC));
        assert_eq!(result, refused("sev-guest", Errno::NOEXEC));
    }

    #[test]
    fn a_folder_of_another_form_is_refused() {
        for names in [["virtio_net.ko"], ["0-tsm.ko"], ["000-tsm.ko"], ["00-.ko"], ["00-tsm.ko.xz"], ["00-Tsm.ko"]] {
            let (seen, result) = insert(&names, NONE);
            assert_eq!((seen.len(), result), (0, Err(InitError::ModuleList("a name is not NN-name.ko"))), "{names:?}");
        }
        let many: Vec<String> = (0..=MOST).map(|n| format!("{n:02}-a{n}.ko")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(insert(&many, NONE), (vec![], Err(InitError::ModuleList("there are more than 64"))));
        let nowhere = load_with(Path::new("/nonexistent"), &mut |_| Ok(()));
        assert_eq!(nowhere, Err(InitError::ModuleList("the folder cannot be read")));
    }
}
