"""Files that the package writes and reads back: manifests, traces, fingerprints, model cards."""
