"""Masks drawn here, projects, invitations, rehearsals, single sign-on, two states more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BEFORE = ("waiting", "second", "accepted", "discarded", "rejected", "returned")
STATES = (*BEFORE, "mending", "withdrawn")


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "projects",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("key", name=op.f("uq_projects_key")),
    )
    op.create_table(
        "assignments",
        sa.Column("project_id", KEY, nullable=False),
        sa.Column("person_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_assignments_person_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_assignments_project_id")),
        sa.PrimaryKeyConstraint("project_id", "person_id", name=op.f("pk_assignments")),
    )
    op.create_index(op.f("ix_assignments_person_id"), "assignments", ["person_id"])
    op.create_table(
        "invitations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=60), nullable=False),
        sa.Column("roles", sa.String(length=80), nullable=False),
        sa.Column("project_id", KEY, nullable=True),
        sa.Column("places", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", KEY, nullable=True),
        sa.ForeignKeyConstraint(["created_by"], ["people.id"], name=op.f("fk_invitations_created_by")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_invitations_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("digest", name=op.f("uq_invitations_digest")),
    )
    op.create_table(
        "rehearsals",
        sa.Column("id", KEY, nullable=False),
        sa.Column("person_id", KEY, nullable=False),
        sa.Column("sample_id", KEY, nullable=False),
        sa.Column("matched", sa.Boolean(), nullable=True),
        sa.Column("targets", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_rehearsals_person_id")),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"], name=op.f("fk_rehearsals_sample_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rehearsals")),
    )
    op.create_index(op.f("ix_rehearsals_person_id"), "rehearsals", ["person_id"])
    op.create_index(op.f("ix_rehearsals_sample_id"), "rehearsals", ["sample_id"])
    op.create_table(
        "object_versions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("object_id", KEY, nullable=False),
        sa.Column("category", sa.String(length=200), nullable=False),
        sa.Column("segmentation", sa.JSON(), nullable=False),
        sa.Column("area", sa.Float(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("lease", sa.String(length=43), nullable=False),
        sa.Column("person_id", KEY, nullable=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["objects.id"], name=op.f("fk_object_versions_object_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_object_versions_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object_versions")),
    )
    op.create_index(op.f("ix_object_versions_object_id"), "object_versions", ["object_id"])
    op.add_column("objects", sa.Column("source", sa.String(length=20), server_default="imported", nullable=False))
    op.add_column("objects", sa.Column("score", sa.Float(), nullable=True))
    op.add_column("objects", sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("samples", sa.Column("gold", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("samples", sa.Column("reviewed_at", sa.Float(), nullable=True))
    op.add_column("people", sa.Column("language", sa.String(length=10), server_default="", nullable=False))
    op.add_column("people", sa.Column("subject", sa.String(length=300), nullable=True))
    op.create_index(op.f("ix_people_subject"), "people", ["subject"], unique=True)
    with op.batch_alter_table("pictures") as table:
        table.add_column(sa.Column("masks", sa.String(length=10), server_default="ready", nullable=False))
        table.add_column(sa.Column("revision", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("project_id", KEY, nullable=True))
        table.add_column(sa.Column("proposed_at", sa.Float(), nullable=True))
        table.add_column(sa.Column("edit_lease", sa.String(length=43), nullable=True))
        table.add_column(sa.Column("edit_person", KEY, nullable=True))
        table.add_column(sa.Column("edit_until", sa.Float(), nullable=True))
        table.create_foreign_key(op.f("fk_pictures_project_id"), "projects", ["project_id"], ["id"])
        table.create_foreign_key(op.f("fk_pictures_edit_person"), "people", ["edit_person"], ["id"])
        table.create_check_constraint(op.f("ck_pictures_masks"), "masks IN ('ready', 'open', 'broken')")
    for name in ("project_id", "edit_person"):
        op.create_index(op.f(f"ix_pictures_{name}"), "pictures", [name])
    op.create_index(op.f("ix_pictures_edit_lease"), "pictures", ["edit_lease"], unique=True)
    op.create_index("ix_pictures_masks", "pictures", ["masks", "id"])
    _know(STATES)


def downgrade() -> None:
    """Back to the version before: sentences that wait for masks, or were taken back, are discarded ones there."""
    op.execute("UPDATE samples SET state = 'discarded' WHERE state IN ('mending', 'withdrawn')")
    _know(BEFORE)
    for name in ("project_id", "edit_person", "edit_lease"):
        op.drop_index(op.f(f"ix_pictures_{name}"), "pictures")
    op.drop_index("ix_pictures_masks", "pictures")
    with op.batch_alter_table("pictures") as table:
        table.drop_constraint(op.f("ck_pictures_masks"), type_="check")
        table.drop_constraint(op.f("fk_pictures_project_id"), type_="foreignkey")
        table.drop_constraint(op.f("fk_pictures_edit_person"), type_="foreignkey")
        for name in ("masks", "project_id", "edit_person", "edit_until", "edit_lease", "proposed_at", "revision"):
            table.drop_column(name)
    op.drop_index(op.f("ix_people_subject"), "people")
    for table_name, names in {
        "people": ("subject", "language"),
        "samples": ("reviewed_at", "gold"),
        "objects": ("active", "score", "source"),
    }.items():
        for name in names:
            op.drop_column(table_name, name)
    for table_name in ("object_versions", "rehearsals", "invitations", "assignments", "projects"):
        op.drop_table(table_name)


def _know(states: tuple[str, ...]) -> None:
    """Let the samples' state be one of these."""
    condition = "state IN (" + ", ".join(f"'{state}'" for state in states) + ")"
    with op.batch_alter_table("samples") as table:
        table.drop_constraint(op.f("ck_samples_state"), type_="check")
        table.create_check_constraint(op.f("ck_samples_state"), condition)
