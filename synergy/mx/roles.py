"""What somebody may do: each role all that the one before it may."""

from enum import IntEnum


class Role(IntEnum):
    """Who may, in ascending order."""

    #: Nobody in particular: what everybody may who reaches the port.
    NOBODY = 0
    #: Look at everything but accounts.
    VIEWER = 1
    #: File requests: reprocess, skip, trigger.
    OPERATOR = 2
    #: Accounts and the audit.
    ADMIN = 3

    @property
    def word(self) -> str:
        """As it is typed and stored."""
        return self.name.lower()


#: The roles that an account may have, by their words.
ROLES = {role.word: role for role in Role if role is not Role.NOBODY}
