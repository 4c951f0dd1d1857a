//! The official wheels of the pinned ONNX Runtime, each with its SHA-256.

/// The version that this tool was tested with.
pub(super) const VERSION: &str = "1.32.0";

/// What ends the name of each wheel for Linux and macOS (`onnxruntime-VERSION-….whl`), and the
/// wheel's SHA-256 as Python's package index lists it (read on 2026-11-30).
pub(super) const WHEELS: [(&str, &str); 16] = [
    (
        "cp311-cp311-macosx_14_0_arm64",
        "366b9e53d07812cc5c92822cecf7563b76a8a0f32ba3bb8dd232a206ac3bcb6c",
    ),
    (
        "cp311-cp311-manylinux_2_28_aarch64",
        "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
    ),
    (
        "cp311-cp311-manylinux_2_28_x86_64",
        "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    ),
    (
        "cp312-cp312-macosx_14_0_arm64",
        "d52510bbbcc880c13b826f7d75cdf33ac5cf0bb864d960000fc29ce73f0cb83e",
    ),
    (
        "cp312-cp312-manylinux_2_28_aarch64",
        "e36c187006e7a7c8b8d6d57f1a209dd63f52430dca6c282b177718ad6b841054",
    ),
    (
        "cp312-cp312-manylinux_2_28_x86_64",
        "99e1074c4b2197accd5073052a465361be17b89c093b8ffb6e6bd8f986c52df8",
    ),
    (
        "cp313-cp313-macosx_14_0_arm64",
        "27bf5dad46355a8a435c9c4e1556464d99ca834ea44e0f452909712068b8821b",
    ),
    (
        "cp313-cp313-manylinux_2_28_aarch64",
        "54d02baff2df38777b4c3cc7af326406fe8b8a48f54720f4c446d2d327920a79",
    ),
    (
        "cp313-cp313-manylinux_2_28_x86_64",
        "02ea12a28c069ea8510093d95a7f6ff8126bfd9fc5c0d3381c03b80fb2b424ba",
    ),
    (
        "cp313-cp313t-manylinux_2_28_aarch64",
        "b01314ab8aa8176919818b19b899cd1cd72b5e4fc33e1127396f043206b6ceed",
    ),
    (
        "cp313-cp313t-manylinux_2_28_x86_64",
        "926b6a87ffdcef56805b213807c28b97ae53763a630795baee1dfb420c2a5b68",
    ),
    (
        "cp314-cp314-macosx_14_0_arm64",
        "ab327b736552324af8d2a38bef5a65ed773f67184a36ff642beec7f5b4e9b03f",
    ),
    (
        "cp314-cp314-manylinux_2_28_aarch64",
        "4135431395c1f37de0811f452c20a8b774f51812fda6c49611ed9899bbdbeeb4",
    ),
    (
        "cp314-cp314-manylinux_2_28_x86_64",
        "48b878f9551d465aa79ee94ecaf49a1f6b5d27f2975efa775ded374db14d0af1",
    ),
    (
        "cp314-cp314t-manylinux_2_28_aarch64",
        "2c4338c899144fd055a86c1d89424001db60e48a474e198c0fd0d1d577e4b663",
    ),
    (
        "cp314-cp314t-manylinux_2_28_x86_64",
        "b224d11cfaecc95b85bdbd69f1673a984c7879af5823bb3ff377b9cb90b176fc",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wheel_has_a_hash_of_its_own() {
        let mut hashes: Vec<_> = WHEELS.iter().map(|(_, hash)| *hash).collect();
        assert!(hashes.iter().all(|hash| {
            hash.len() == 64 && hash.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
        }));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), WHEELS.len());
        for system in ["manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "macosx_14_0_arm64"] {
            assert!(WHEELS.iter().any(|(name, _)| name.ends_with(system)), "{system}");
        }
    }
}
