"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the tables from the revision before to this one."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Refuse: the way back is the backup that was made before the upgrade."""
    raise CommandError("there is no way down: put the backup back that the upgrade made")
