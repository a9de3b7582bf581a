from django.db import models


class Link(models.Model):
    """An address that is followed by clicks on its slug."""

    slug = models.SlugField(max_length=100, unique=True)
    url = models.URLField(max_length=2000)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Click(models.Model):
    """One click on a link, as a third party has reported it."""

    click_id = models.UUIDField(primary_key=True)
    link = models.ForeignKey(Link, on_delete=models.PROTECT, related_name="clicks")
    clicked_at = models.DateTimeField()
    # Names the request that brought the click. Several may report the same one, and only the first has it stored.
    batch = models.UUIDField(editable=False)

    def __str__(self) -> str:
        return str(self.click_id)


class Record(models.Model):
    """A small piece of JSON under a name."""

    name = models.CharField(max_length=100)
    data = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name
