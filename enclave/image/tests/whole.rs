//! Builds whole images from a made-up archive through a made-up apt, and from one that lacks, swaps or breaks something.
//! It does not boot them, and asks no real archive.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod parts;

use std::fs;

use parts::{
    Bench, DRIVERS, FIRMWARE, Files, KERNEL, MTIME, config_path, firmware, kernel_files, module, module_path, xz,
};
use vouchsafe_image::{Image, ImageError, Manifest, Part, build, diff, extract, fetch, inspect, is_taken, resolve};

fn make(bench: &Bench) -> Result<Image, ImageError> {
    let packages = fetch(&bench.lock(), &bench.origin(), &mut |_| {})?;
    build(&bench.lock(), &packages, &bench.path("enclave"), &bench.path("onnxruntime.so"))
}

fn refused(bench: &Bench) -> (&'static str, u8) {
    let Err(error) = make(bench) else { panic!("it was built") };
    assert!(!error.to_string().is_empty() && !error.advice().is_empty());
    (error.code(), error.exit())
}

#[test]
fn an_image_holds_what_is_needed_and_nothing_else_and_is_the_same_every_time() {
    let bench = Bench::new();
    let image = make(&bench).unwrap();
    let paths: Vec<&str> = image.manifest.contents.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "init",
            "lib/modules/00-failover.ko",
            "lib/modules/01-net_failover.ko",
            "lib/modules/02-virtio_net.ko",
            "lib/modules/03-virtio_blk.ko",
            "lib/modules/04-configfs.ko",
            "lib/modules/05-tsm.ko",
            "lib/modules/06-sev-guest.ko",
            "lib/modules/07-tdx-guest.ko",
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib64/ld-linux-x86-64.so.2",
            "usr/lib/libonnxruntime.so",
        ]
    );
    // Of the whole archive, folders included: see the_library_is_the_last_entry in reproducible.rs.
    let archive = zstd::decode_all(&image.initrd[..]).unwrap();
    let place = |name: &[u8]| archive.windows(name.len()).rposition(|bytes| bytes == name).unwrap();
    assert!(place(b"usr/lib/libonnxruntime.so\0") > place(b"sys\0"), "the guest takes its end for the archive's");
    let stock = firmware(&DRIVERS);
    assert_eq!(image.manifest.firmware_from, vouchsafe_image::Part::of(&stock).sha256);
    assert!(image.firmware.len() == stock.len() && image.firmware != stock, "its doors are shut");
    assert_eq!(image.manifest.kernel_release, "6.99.1+deb12-cloud-amd64");
    assert_eq!(image.manifest.packages, bench.lock().packages());
    assert_eq!(vouchsafe_image::Part::of(&archive), image.manifest.archive);
    assert!(archive.windows(4).any(|bytes| bytes == b"sys\0"), "folders to mount on are there");

    // Another machine, another folder, another archive with the same packages: the same bytes.
    let again = make(&Bench::new()).unwrap();
    assert!(again.initrd == image.initrd && again.kernel == image.kernel);
    assert_eq!(again.manifest, image.manifest);
}

#[test]
fn apt_runs_apart_from_the_system_and_only_when_something_is_missing() {
    let bench = Bench::new();
    make(&bench).unwrap();
    let config = fs::read_to_string(bench.path("pool/apt.conf")).unwrap();
    assert!(config.contains("Acquire::Retries \"3\";"), "how to reach the network is taken over");
    assert!(!config.contains("Post-Invoke"), "hooks of the system are not");
    for setting in ["Dir::State \"", "Dir::Cache \"", "Dir::Etc::sourceparts \""] {
        let line = config.lines().find(|line| line.starts_with(setting)).unwrap();
        assert!(line.contains(&*bench.path("cache").to_string_lossy()), "{line}");
    }
    // Lists of a past day are good enough for what is pinned by digest; for today's packages they are not.
    let undated = |config: &str| config.lines().filter(|line| line.contains("Check-Valid-Until")).count();
    assert!(undated(&config) == 1 && config.contains("\nAcquire::Check-Valid-Until \"false\";\n"), "{config}");
    let first = bench.calls();
    assert_eq!(first.matches("download").count(), 5);
    // With everything in the cache there is no apt at all.
    fs::remove_dir_all(bench.path("bin")).unwrap();
    make(&bench).unwrap();
    assert_eq!(bench.calls(), first);
    let other = Bench::new();
    let _ = resolve(0, &other.origin(), &mut |_| {});
    assert_eq!(undated(&fs::read_to_string(other.path("pool/apt.conf")).unwrap()), 0);
    // A package that was altered in the cache is fetched again, and without apt that is told.
    let kept = fs::read_dir(bench.path("cache/packages")).unwrap().next().unwrap().unwrap().path();
    fs::write(kept, b"altered").unwrap();
    assert_eq!(refused(&bench), ("IMAGE_NO_APT", 9));
}

#[test]
fn a_package_that_the_archive_no_longer_carries_makes_the_lock_stale() {
    let bench = Bench::new();
    bench.tell("ovmf-amdsev", "2.0-1", "sid", "");
    let Err(error) = make(&bench) else { panic!("it was built") };
    assert_eq!((error.code(), error.exit()), ("LOCK_STALE", 8));
    assert!(error.to_string().contains("ovmf-amdsev 1.0-1"), "{error}");
    assert!(error.advice().contains("vouchsafe image lock --out image.lock"));
    // Found, but in another suite only: that is not the locked one either.
    bench.tell("ovmf-amdsev", "1.0-1", "bookworm-backports", "");
    assert_eq!(refused(&bench), ("LOCK_STALE", 8));
}

#[test]
fn another_file_under_the_locked_version_is_refused_and_not_kept() {
    let bench = Bench::new();
    let lock = bench.lock();
    let firmware = lock.packages().iter().find(|input| input.name == "ovmf-amdsev").unwrap();
    let pool = bench.path("pool/ovmf-amdsev=1.0-1.deb");
    let mut bytes = fs::read(&pool).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&pool, &bytes).unwrap();
    assert_eq!(refused(&bench), ("LOCK_DIGEST", 6));
    // A longer one is not read to its end.
    bytes[last] ^= 1;
    bytes.extend([0; 4096]);
    fs::write(&pool, &bytes).unwrap();
    assert_eq!(refused(&bench), ("LOCK_DIGEST", 6));
    assert!(!bench.path(&format!("cache/packages/{}.deb", firmware.sha256)).exists());
    let left: Vec<_> = fs::read_dir(bench.path("cache/packages")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".deb")), "{left:?}");
}

#[test]
fn apt_that_fails_is_told_with_its_own_last_line() {
    let bench = Bench::new();
    bench.write("bin/apt-get", b"#!/bin/sh\necho 'W: first' >&2\necho 'E: no route to the archive' >&2\nexit 100\n");
    let Err(error) = make(&bench) else { panic!("it was built") };
    assert_eq!((error.code(), error.exit()), ("IMAGE_APT", 8));
    assert!(error.to_string().ends_with("E: no route to the archive"), "{error}");
    fs::remove_file(bench.path("etc/sources.list")).unwrap();
    assert_eq!(refused(&bench), ("IMAGE_NO_ARCHIVE", 9));
}

#[test]
fn todays_packages_are_locked_by_what_the_archive_says() {
    let bench = Bench::new();
    let lock = bench.lock();
    let meta = format!("Depends: {KERNEL} (= 1.0-1), base\n");
    bench.tell("linux-image-cloud-amd64", "7", "bookworm-backports", &meta);
    assert_eq!(resolve(MTIME, &bench.origin(), &mut |_| {}).unwrap(), lock);
    for depends in ["", "Depends: linux-image-cloud-amd64-unsigned\n", "Depends: linux-image-amd64\n"] {
        bench.tell("linux-image-cloud-amd64", "7", "bookworm-backports", depends);
        let error = resolve(MTIME, &bench.origin(), &mut |_| {}).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("IMAGE_PACKAGE_MISSING", 8), "{depends}");
    }
}

#[test]
fn a_kernel_that_lacks_something_is_refused_by_its_name() {
    type Change = fn(&mut Files);
    let changes: [(&str, &str, Change); 6] = [
        ("IMAGE_KERNEL", "sev-guest", |files| {
            drop(files.remove(&module_path("drivers/virt/coco/sev-guest/sev-guest")))
        }),
        ("IMAGE_KERNEL", "CONFIG_SECURITY_LANDLOCK", |files| {
            let config = files.get_mut(&config_path()).unwrap();
            *config = String::from_utf8_lossy(config).replace("LANDLOCK=y", "LANDLOCK=m").into_bytes();
        }),
        ("IMAGE_MODULE_ORDER", "virtio_blk", |files| {
            files.insert(module_path("drivers/block/virtio_blk"), xz(&module("virtio_ring")));
        }),
        ("IMAGE_PACKAGE", KERNEL, |files| {
            files.insert(module_path("drivers/block/virtio_blk"), xz(b"no object file"));
        }),
        ("IMAGE_PACKAGE", KERNEL, |files| drop(files.insert("./boot/vmlinuz-other".into(), vec![0; 9]))),
        ("IMAGE_PACKAGE", KERNEL, |files| drop(files.remove("./boot/vmlinuz-6.99.1+deb12-cloud-amd64"))),
    ];
    for (code, name, change) in changes {
        let mut files = kernel_files();
        change(&mut files);
        let mut bench = Bench::new();
        bench.carry(KERNEL, "bookworm-backports", "amd64", &files, false);
        let Err(error) = make(&bench) else { panic!("it was built") };
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    // Control: what is compiled in need not be a module.
    let mut files = kernel_files();
    files.remove(&module_path("fs/configfs/configfs"));
    let builtin = files.keys().find(|path| path.ends_with("modules.builtin")).unwrap().clone();
    files.insert(builtin, b"kernel/fs/configfs/configfs.ko\n".to_vec());
    let mut bench = Bench::new();
    bench.carry(KERNEL, "bookworm-backports", "amd64", &files, false);
    let image = make(&bench).unwrap();
    assert!(image.manifest.contents.iter().any(|file| file.path == "lib/modules/06-tdx-guest.ko"));
}

#[test]
fn programs_that_would_not_start_in_the_guest_are_refused_before_it() {
    let bench = Bench::new();
    bench.write("enclave", b"#!/bin/sh\n");
    assert_eq!(refused(&bench), ("IMAGE_NOT_ELF", 9));
    bench.write("enclave", b"");
    assert_eq!(refused(&bench), ("IMAGE_NOT_ELF", 9));
    fs::remove_file(bench.path("enclave")).unwrap();
    assert_eq!(refused(&bench), ("IMAGE_FILE", 9));
    let mut bench = Bench::new();
    bench.carry("libc6", "bookworm", "amd64", &Files::new(), true);
    assert_eq!(refused(&bench), ("IMAGE_LIBRARY_MISSING", 9));
    let mut bench = Bench::new();
    bench.carry("ovmf-amdsev", "sid", "all", &Files::new(), true);
    assert_eq!(refused(&bench), ("IMAGE_PACKAGE", 6));
}

#[test]
fn a_firmware_whose_doors_cannot_be_shut_is_refused() {
    let shut = make(&Bench::new()).unwrap().firmware;
    let known: Vec<&str> = DRIVERS.into_iter().filter(|driver| *driver != "Fat").collect();
    for bytes in [vec![9; 5000], firmware(&known), shut] {
        let mut bench = Bench::new();
        bench.carry("ovmf-amdsev", "sid", "all", &Files::from([(FIRMWARE.into(), bytes)]), true);
        assert_eq!(refused(&bench), ("IMAGE_FIRMWARE", 9));
    }
}

#[test]
fn a_folder_reads_back_and_any_changed_byte_of_a_booted_file_is_noticed() {
    let bench = Bench::new();
    let image = make(&bench).unwrap();
    let out = bench.path("out/image");
    image.write(&out).unwrap();
    assert_eq!(Manifest::read(&out).unwrap(), image.manifest);
    for name in ["kernel", "initrd", "firmware.fd"] {
        let path = out.join(name);
        let bytes = fs::read(&path).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            let error = Manifest::read(&out).unwrap_err();
            assert_eq!((error.code(), error.exit()), ("IMAGE_MISMATCH", 6));
            assert!(error.to_string().contains(name), "{error}");
        }
        fs::write(&path, [&bytes[..], b"\0"].concat()).unwrap();
        assert_eq!(Manifest::read(&out).unwrap_err().code(), "IMAGE_MISMATCH");
        fs::remove_file(&path).unwrap();
        assert_eq!(Manifest::read(&out).unwrap_err().code(), "IMAGE_FILE");
        fs::write(&path, bytes).unwrap();
        assert_eq!(Manifest::read(&out).unwrap(), image.manifest);
    }
}

/// A manifest that was adapted to a changed initrd: what `show` prints must be what the kernel would find.
#[test]
fn what_the_initrd_holds_is_what_the_manifest_lists() {
    let bench = Bench::new();
    let image = make(&bench).unwrap();
    let out = bench.path("image");
    image.write(&out).unwrap();
    assert_eq!(inspect(&out).unwrap(), image.manifest, "control");
    let initrd = fs::read(out.join("initrd")).unwrap();
    let archive = zstd::decode_all(&initrd[..]).unwrap();
    let text = fs::read_to_string(out.join("image.json")).unwrap();
    let refused = |initrd: &[u8], archive: &[u8], change: &dyn Fn(&mut Manifest)| {
        let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
        (manifest.initrd, manifest.archive) = (Part::of(initrd), Part::of(archive));
        change(&mut manifest);
        fs::write(out.join("initrd"), initrd).unwrap();
        fs::write(out.join("image.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let error = inspect(&out).unwrap_err();
        assert!(!bench.path("unpacked").exists() && extract(&out, &bench.path("unpacked")).is_err());
        (error.code(), error.exit(), error.to_string())
    };
    let manifest = |(code, exit, text): (&'static str, u8, String), what: &str| {
        assert_eq!((code, exit), ("IMAGE_MANIFEST", 6), "{text}");
        assert!(text.contains(what), "{text}");
    };
    let twice = [&archive[..], &archive].concat();
    manifest(refused(&zstd::encode_all(&twice[..], 1).unwrap(), &twice, &|_| {}), "form");
    manifest(refused(&[&initrd[..], &initrd].concat(), &twice, &|_| {}), "goes on");
    manifest(refused(&[&initrd[..], b"070701"].concat(), &archive, &|_| {}), "goes on");
    manifest(refused(&[&initrd[..], &[0; 4]].concat(), &archive, &|_| {}), "goes on");
    manifest(refused(b"no frame of zstd", &archive, &|_| {}), "zstd");
    manifest(refused(&initrd, &archive, &|m| m.contents[0].bytes += 1), "other files");
    manifest(refused(&initrd, &archive, &|m| m.contents[0].sha256 = "0".repeat(64)), "other files");
    manifest(refused(&initrd, &archive, &|m| drop(m.contents.pop())), "other files");
    manifest(refused(&initrd, &archive, &|m| m.enclave_sha256 = "0".repeat(64)), "enclave");
    manifest(refused(&initrd, &archive, &|m| m.onnxruntime_sha256 = "0".repeat(64)), "enclave");
    manifest(refused(&initrd, &archive, &|m| m.contents[0].path = "in\x1b[2Jit".into()), "characters");
    manifest(refused(&initrd, &archive, &|m| m.kernel_release = "6.12\nkernel 0".into()), "characters");
    manifest(refused(&initrd, &archive, &|m| m.compressor = "zstd\u{202e}".into()), "characters");
    manifest(refused(&initrd, &archive, &|m| m.packages[0].version = "1\x07".into()), "characters");
}

#[test]
fn an_image_folder_is_replaced_whole_and_nothing_else_ever() {
    let bench = Bench::new();
    let first = make(&bench).unwrap();
    let out = bench.path("image");
    assert!(!is_taken(&out).unwrap());
    first.write(&out).unwrap();
    bench.write("enclave", &fs::read("/bin/false").unwrap());
    let second = make(&bench).unwrap();
    assert!(is_taken(&out).unwrap());
    second.write(&out).unwrap();
    assert_eq!(Manifest::read(&out).unwrap(), second.manifest);
    let found: Vec<_> = diff(&first.manifest, &second.manifest).into_iter().map(|d| (d.kind, d.name)).collect();
    assert_eq!(found, [("part", "initrd".into()), ("file", "init".into()), ("manifest", "archive".into())]);
    assert!(diff(&second.manifest, &second.manifest).is_empty());
    let left: Vec<_> = fs::read_dir(bench.dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");

    fs::write(out.join("notes.txt"), b"mine").unwrap();
    for taken in [&out, &bench.path("enclave")] {
        let error = second.write(taken).unwrap_err();
        assert_eq!((error.code(), error.exit()), ("IMAGE_OUT_TAKEN", 9));
    }
    assert_eq!(fs::read(out.join("notes.txt")).unwrap(), b"mine");
    // A manifest about other bytes is not written at all.
    let mixed = Image { manifest: first.manifest, ..second };
    assert_eq!(mixed.write(&bench.path("mixed")).unwrap_err().code(), "IMAGE_MISMATCH");
    assert!(!bench.path("mixed").exists());
}
