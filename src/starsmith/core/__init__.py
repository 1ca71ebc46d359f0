"""What every stage shares: errors, settings, artefacts, records, hashes, the console. No torch, no network."""
