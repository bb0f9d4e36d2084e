"""Testing: fakes of every port, conformance suites and faults, shipped for users and for us."""
