"""Tests of the batch runner, by package."""
