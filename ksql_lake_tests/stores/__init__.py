"""S3 servers on loopback for tests: moto (fast), SeaweedFS (real), and a proxy that counts and interferes."""
