# SPDX-License-Identifier: Apache-2.0
"""
The real parts that tests meet: a Docker daemon, images, an S3 server, an Airflow home.

Each module brings one part as a pytest fixture, starts it where it is missing and can be started, and stops only what
it started. ``python -m tests.parts up`` prepares the same parts for a person. A part that cannot be had makes its tests
skip, see ``requirement``.
"""
