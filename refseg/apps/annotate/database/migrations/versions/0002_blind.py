"""Who has seen which sentence, samples that went back, licences of pictures, failed logins, the hour's leaderboard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STATES = "state IN ('waiting', 'second', 'accepted', 'discarded', 'rejected'{})"


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "attempts",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_last_at"), "attempts", ["last_at"], unique=False)
    op.create_index(op.f("ix_rates_window"), "rates", ["window"], unique=False)
    op.create_table(
        "boards",
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_boards")),
    )
    op.create_table(
        "seen",
        sa.Column("person_id", _KEY, nullable=False),
        sa.Column("sample_id", _KEY, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_seen_person_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_seen_sample_id")),
        sa.PrimaryKeyConstraint("person_id", "sample_id", name=op.f("pk_seen")),
    )
    op.create_index(op.f("ix_seen_sample_id"), "seen", ["sample_id"], unique=False)
    for name, kind in (("license", sa.Text()), ("source_url", sa.Text()), ("stored_digest", sa.String(length=64))):
        op.add_column("pictures", sa.Column(name, kind, nullable=False, server_default=""))
    _check_states(", 'returned'")


def downgrade() -> None:
    """Back to the version before."""
    op.execute("UPDATE samples SET state = 'discarded' WHERE state = 'returned'")
    _check_states("")
    for name in ("stored_digest", "source_url", "license"):
        op.drop_column("pictures", name)
    op.drop_index(op.f("ix_seen_sample_id"), table_name="seen")
    op.drop_table("seen")
    op.drop_table("boards")
    op.drop_index(op.f("ix_rates_window"), table_name="rates")
    op.drop_index(op.f("ix_attempts_last_at"), table_name="attempts")
    op.drop_table("attempts")


def _check_states(more: str) -> None:
    with op.batch_alter_table("samples", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_samples_state"), type_="check")
        batch_op.create_check_constraint(op.f("ck_samples_state"), _STATES.format(more))
