"""Papers that leave the house: what the manifests say, in the forms that hubs, auditors and authorities read."""
