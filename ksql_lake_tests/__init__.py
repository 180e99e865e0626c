"""Tests, room by room: fakes on the wire, real files, no mocks."""
