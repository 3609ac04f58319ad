Rails.application.routes.draw { root 'shop#index' }
