def owner_is_allowed(owner):
    return owner.is_paid


def owners_of(user):
    return user.projects.all()
