//! A cache of leaves spares signatures of collateral and changes no verdict.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{
    Genuine, IN_FORCE, STALE, Seeded, at,
    forge::{anchors, sim},
    genuine, hardware, snp, vectors,
};
use vouchsafe_attestation::{
    Anchors, Authentic, Collateral, Evidence, LeafCache, TdxCollateral, UnixTime, VerifyError, verify, verify_cached,
};

const NOW: &str = "2026-06-01T00:00:00Z";

fn cached(case: &Genuine, anchors: &Anchors, now: UnixTime, cache: &LeafCache) -> Result<Authentic, VerifyError> {
    let (evidence, collateral) = case.parts();
    verify_cached(&evidence, &collateral, anchors, now, cache)
}

fn code(case: &Genuine, now: &str, cache: &LeafCache) -> &'static str {
    cached(case, &sim().anchors(), at(now), cache).map_or_else(|error| error.code(), |_| "AUTHENTIC")
}

#[test]
fn the_second_verdict_says_the_same() {
    for case in [sim().good(), sim().good_vlek()] {
        let cache = LeafCache::new();
        let bare = case.verify(&sim().anchors(), at(NOW)).unwrap();
        for _ in 0..3 {
            let authentic = cached(&case, &sim().anchors(), at(NOW), &cache).unwrap();
            assert_eq!((authentic.facts(), authentic.steps()), (bare.facts(), bare.steps()));
            assert_eq!((authentic.anchors(), authentic.at()), (bare.anchors(), bare.at()));
            assert_eq!(cache.len(), 1);
        }
    }
}

#[test]
fn only_what_passed_in_full_is_remembered() {
    let cache = LeafCache::new();
    let mut report = sim().good();
    report.report[0x50] ^= 1;
    let mut leaf = sim().good();
    *leaf.leaf.last_mut().unwrap() ^= 1;
    let mut crl = sim().good();
    *crl.crl.last_mut().unwrap() ^= 1;
    let mut asvk = sim().good_vlek();
    *asvk.asvk.last_mut().unwrap() ^= 1;
    let masked = sim().with_report(|r| r[0x48] = 2);
    for (case, expected) in [
        (&report, "SIGNATURE_INVALID"),
        (&leaf, "LEAF_SIGNATURE"),
        (&crl, "CRL_SIGNATURE"),
        (&asvk, "ASVK_SIGNATURE"),
        (&masked, "SIGNER_MASKED"),
    ] {
        assert_eq!(code(case, NOW, &cache), expected);
        assert!(cache.is_empty());
    }
    // And after the good ones are remembered, the bad ones are still refused.
    assert_eq!(code(&sim().good(), NOW, &cache), "AUTHENTIC");
    assert_eq!(code(&sim().good_vlek(), NOW, &cache), "AUTHENTIC");
    let remembered = cache.len();
    for case in [&report, &leaf, &crl, &asvk, &masked] {
        assert_ne!(code(case, NOW, &cache), "AUTHENTIC");
        assert_eq!(cache.len(), remembered);
    }
}

#[test]
fn dates_are_compared_on_every_call() {
    let (cache, good) = (LeafCache::new(), sim().good());
    assert_eq!(code(&good, NOW, &cache), "AUTHENTIC");
    for (now, expected) in [
        ("2025-12-31T23:59:59Z", "ANCHOR_NOT_YET_VALID"),
        ("2026-01-01T00:00:00Z", "AUTHENTIC"),
        ("2027-01-01T00:00:00Z", "AUTHENTIC"),
        ("2027-01-01T00:00:01Z", "LEAF_EXPIRED"),
        ("2051-01-01T00:00:01Z", "ANCHOR_EXPIRED"),
    ] {
        assert_eq!(code(&good, now, &cache), expected, "{now}");
    }
    let short = sim().with_crl(|c| c.next_update = common::forge::tlv(0x17, b"260701000000Z"));
    assert_eq!(code(&short, NOW, &cache), "AUTHENTIC");
    assert_eq!(code(&short, "2026-07-01T00:00:01Z", &cache), "CRL_EXPIRED");
    assert_eq!(cache.len(), 2);
}

#[test]
fn every_part_of_the_key_counts() {
    let (cache, good, loaded) = (LeafCache::new(), sim().good(), sim().good_vlek());
    assert_eq!(code(&good, NOW, &cache), "AUTHENTIC");
    assert_eq!(code(&loaded, NOW, &cache), "AUTHENTIC");
    // Known parts, in a set that was never seen together.
    let mixed = Genuine { crl: loaded.crl.clone(), ..good.clone() };
    assert_eq!((code(&mixed, NOW, &cache), cache.len()), ("AUTHENTIC", 3));
    assert_eq!(code(&Genuine { asvk: loaded.asvk, ..good.clone() }, NOW, &cache), "ASVK_UNEXPECTED");
    // The same names under other keys: what one root signed is nothing to another.
    let mut ask = sim().ask_cert();
    ask.spki.clone_from(&sim().asvk_cert().spki);
    let other = anchors(&sim().bundle(&sim().ark_cert(), &ask)).unwrap();
    assert_eq!(cached(&good, &other, at(NOW), &cache).unwrap_err().code(), "LEAF_SIGNATURE");
    assert_eq!(cached(&good, &hardware(), at(NOW), &cache).unwrap_err().code(), "LEAF_SIMULATED");
    assert_eq!(cache.len(), 3);
}

#[test]
fn a_mutant_of_anything_is_refused_behind_a_warm_cache() {
    let (cache, mut seeded) = (LeafCache::new(), Seeded(0x5eed_0003));
    for good in [sim().good(), sim().good_vlek()] {
        assert_eq!(code(&good, NOW, &cache), "AUTHENTIC");
        for round in 0..2000 {
            let mut case = good.clone();
            let target = match round % 4 {
                0 => &mut case.report,
                1 => &mut case.leaf,
                2 => &mut case.crl,
                _ => &mut case.asvk,
            };
            seeded.mutate(target);
            assert_eq!(code(&case, NOW, &cache) == "AUTHENTIC", case == good, "{} round {round}", good.name);
        }
    }
    assert_eq!(cache.len(), 2);
}

#[test]
fn threads_share_one() {
    let (cache, cases) = (LeafCache::new(), [sim().good(), sim().good_vlek()]);
    std::thread::scope(|scope| {
        for case in cases.iter().cycle().take(8) {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(code(case, NOW, &cache), "AUTHENTIC");
                }
            });
        }
    });
    assert_eq!(cache.len(), 2);
}

#[test]
fn genuine_machines_of_every_product_share_one() {
    let Some(dir) = vectors("genuine_machines_of_every_product_share_one") else { return };
    let cache = LeafCache::new();
    let all: Vec<_> = genuine(&dir).into_iter().filter(|c| !c.name.contains("vlek")).collect();
    for _ in 0..2 {
        for case in &all {
            let authentic = cached(case, &hardware(), at(IN_FORCE), &cache).unwrap();
            assert_eq!(authentic.facts(), case.verify(&hardware(), at(IN_FORCE)).unwrap().facts());
            assert!(snp(&authentic).report.chip_id.iter().any(|b| *b != 0));
        }
        assert_eq!(cache.len(), all.len());
    }
    for case in &all {
        assert_eq!(cached(case, &hardware(), at(STALE), &cache).unwrap_err().code(), "CRL_EXPIRED");
    }
}

/// TDX has nothing to remember: the same error either way, and an empty cache.
#[test]
fn tdx_goes_through_unchanged() {
    let cache = LeafCache::new();
    let evidence = Evidence::Tdx { quote: vec![0; 100] };
    let collateral = Collateral::Tdx(TdxCollateral {
        pck_crl_issuer_chain: String::new(),
        root_ca_crl: vec![],
        pck_crl: vec![],
        tcb_info_issuer_chain: String::new(),
        tcb_info: String::new(),
        tcb_info_signature: vec![],
        qe_identity_issuer_chain: String::new(),
        qe_identity: String::new(),
        qe_identity_signature: vec![],
    });
    let bare = verify(&evidence, &collateral, &hardware(), at(NOW)).unwrap_err();
    let through = verify_cached(&evidence, &collateral, &hardware(), at(NOW), &cache).unwrap_err();
    assert_eq!((bare, cache.len()), (through, 0));
    let (snp, _) = sim().good().parts();
    let kinds = verify_cached(&snp, &collateral, &sim().anchors(), at(NOW), &cache).unwrap_err();
    assert_eq!(kinds.code(), "COLLATERAL_KIND");
}
