"""The example's addresses, without those where users look after their own keys.

Most tests are of keys that have no owners: these addresses would be a mistake there, and `check` would say so.
"""

from example_project import urls
from example_project.accounts import own_keys
from keys.selfservice import pages

urlpatterns = [one for one in urls.urlpatterns if getattr(one, "urlconf_module", None) not in (own_keys, pages)]
