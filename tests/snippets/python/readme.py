"""The block of README.md, which does not renew."""
import unittest

from locks import Locks
from trials import Blocking


class Readme(Blocking, unittest.TestCase):
    Locks = Locks
    lost = RuntimeError


unittest.main()
